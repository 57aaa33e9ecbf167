// Package desired keeps on disk what a node was told to run: its pods, the
// ConfigMaps, Secrets and RuntimeClasses that they refer to, and the range of
// their addresses. A node that boots without a plane runs from it what it ran. It
// knows files and objects; it never learns whether a pod runs.
//
// Everything is sealed with a key of this machine (AES-256-GCM, 0600, beside it):
// Secrets are never in clear in a file of ours, a copy of the files without the
// key is worth nothing, and a file that was torn by a crash does not open. Tokens
// of service accounts are not kept: without a plane they open nothing.
//
// What changes is written within a second, behind the node's back, so that a pod
// never waits for it. A crash of the process loses at most that second. After a
// power failure a file may be missing; its pod then waits for the plane.
//
//	d, err := desired.Open(desired.Config{Dir: dir, Refs: refs})
//	go d.Run(ctx)
//	d.SetPod(pod)
//	for _, pod := range d.Pods() { … } // at a boot without a plane
package desired

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/objects"
)

// RuntimeClass is the kind of a reference beside those of package objects.
const RuntimeClass objects.Kind = "runtimeclass"

// Config configures a Store. Dir is needed.
type Config struct {
	Dir string // made if need be, 0700
	// Refs is what a pod refers to. Nil: nothing.
	Refs func(*v1.Pod) []objects.Ref
	// Flush is how long changes gather before they are written. Zero: 1 s.
	Flush time.Duration
	Log   *slog.Logger
}

// Store is what is kept. Its methods may be called at once.
type Store struct {
	cfg  Config
	box  box
	wake chan struct{}

	mu      sync.Mutex         // guards what follows
	pending map[string]content // by file; what is to be written
	pods    map[types.UID][]objects.Ref
	refs    map[objects.Ref]int // how many pods refer to it

	writing sync.Mutex // one flush at a time
}

// content is what a file is to hold; nil value: it is to go.
type content struct{ value any }

// Open opens a store, or begins one.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("desired state: config: Dir is empty")
	}
	if cfg.Refs == nil {
		cfg.Refs = func(*v1.Pod) []objects.Ref { return nil }
	}
	cfg.Flush = cmp.Or(cfg.Flush, time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	for _, dir := range []string{cfg.Dir, filepath.Join(cfg.Dir, podsDir), filepath.Join(cfg.Dir, objectsDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("desired state: %w", err)
		}
	}
	b, err := openBox(filepath.Join(cfg.Dir, "key"))
	if err != nil {
		return nil, fmt.Errorf("desired state: %w", err)
	}
	return &Store{
		cfg: cfg, box: b, wake: make(chan struct{}, 1),
		pending: map[string]content{}, pods: map[types.UID][]objects.Ref{}, refs: map[objects.Ref]int{},
	}, nil
}

const (
	podsDir    = "pods"
	objectsDir = "objects"
	rangeFile  = "range"
)

// podFile is where a pod is kept; false if its UID cannot be part of a path.
func podFile(uid types.UID) (string, bool) {
	id := string(uid)
	if id == "" || len(id) > 128 || !filepath.IsLocal(id) || strings.ContainsAny(id, `/\.`) {
		return "", false
	}
	return filepath.Join(podsDir, id), true
}

// objectFile is where an object is kept. Its name tells nothing of the object's.
func objectFile(ref objects.Ref) string {
	sum := sha256.Sum256([]byte(string(ref.Kind) + "\x00" + ref.Namespace + "\x00" + ref.Name))
	return filepath.Join(objectsDir, hex.EncodeToString(sum[:16]))
}

// restarts says whether a boot without a plane may start the pod. One that ends
// or has ended is not started again. Nor is one of a StatefulSet: the plane may
// have given its name to another machine, and two of them must never run.
func restarts(pod *v1.Pod) bool {
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "StatefulSet" {
		return false
	}
	return pod.DeletionTimestamp == nil && pod.Status.Phase != v1.PodSucceeded && pod.Status.Phase != v1.PodFailed
}

// SetPod keeps a pod as it is now. It is not to be changed afterwards.
func (s *Store) SetPod(pod *v1.Pod) {
	if !restarts(pod) {
		s.DropPod(pod.UID)
		return
	}
	file, ok := podFile(pod.UID)
	if !ok {
		return
	}
	refs := s.cfg.Refs(pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refer(pod.UID, refs)
	s.put(file, pod)
}

// DropPod forgets a pod, and what no other refers to.
func (s *Store) DropPod(uid types.UID) {
	file, ok := podFile(uid)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refer(uid, nil)
	s.put(file, nil)
}

// refer replaces what a pod refers to. The caller holds s.mu.
func (s *Store) refer(uid types.UID, refs []objects.Ref) {
	for _, ref := range refs {
		s.refs[ref]++
	}
	for _, ref := range s.pods[uid] {
		if s.refs[ref]--; s.refs[ref] == 0 {
			delete(s.refs, ref)
			s.put(objectFile(ref), nil)
		}
	}
	if delete(s.pods, uid); len(refs) > 0 {
		s.pods[uid] = refs
	}
}

// put notes what a file is to hold. The caller holds s.mu.
func (s *Store) put(file string, value any) {
	s.pending[file] = content{value}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// kept is an object in a file. Ref says which it is: the file's name does not.
type kept struct {
	Ref    objects.Ref     `json:"ref"`
	Object json.RawMessage `json:"object"`
}

// Save implements objects.Cache: it keeps an object that a pod refers to. Nil:
// there is none any more.
func (s *Store) Save(ref objects.Ref, obj metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case obj == nil:
		s.put(objectFile(ref), nil)
	case s.refs[ref] > 0:
		s.put(objectFile(ref), keptObject{ref, obj})
	}
}

// keptObject is kept before it is encoded.
type keptObject struct {
	Ref    objects.Ref   `json:"ref"`
	Object metav1.Object `json:"object"`
}

// Load implements objects.Cache.
func (s *Store) Load(ref objects.Ref) (metav1.Object, bool) {
	file := objectFile(ref)
	s.mu.Lock()
	c, waits := s.pending[file]
	s.mu.Unlock()
	if waits {
		k, ok := c.value.(keptObject)
		return k.Object, ok
	}
	var k kept
	if err := s.read(file, &k); err != nil {
		s.damaged(file, err)
		return nil, false
	}
	obj := empty(ref.Kind)
	if obj == nil || k.Ref != ref || json.Unmarshal(k.Object, obj) != nil {
		return nil, false
	}
	return obj, true
}

func empty(kind objects.Kind) metav1.Object {
	switch kind {
	case objects.ConfigMap:
		return &v1.ConfigMap{}
	case objects.Secret:
		return &v1.Secret{}
	case RuntimeClass:
		return &nodev1.RuntimeClass{}
	}
	return nil
}

// SetRange keeps the range of pod addresses.
func (s *Store) SetRange(cidr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(rangeFile, cidr)
}

// Range is the range of pod addresses that was kept last, or "".
func (s *Store) Range() string {
	var cidr string
	if err := s.read(rangeFile, &cidr); err != nil {
		s.damaged(rangeFile, err)
		return ""
	}
	return cidr
}

// Pods are the pods that were kept, in no order. What they refer to stays kept.
func (s *Store) Pods() []*v1.Pod {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, podsDir))
	if err != nil {
		s.damaged(podsDir, err)
		return nil
	}
	var list []*v1.Pod
	for _, e := range entries {
		pod := &v1.Pod{}
		file := filepath.Join(podsDir, e.Name())
		if err := s.read(file, pod); err != nil || string(pod.UID) != e.Name() {
			s.damaged(file, err)
			continue
		}
		refs := s.cfg.Refs(pod)
		s.mu.Lock()
		if s.pods[pod.UID] == nil {
			s.refer(pod.UID, refs)
		}
		s.mu.Unlock()
		list = append(list, pod)
	}
	return list
}

// Keep forgets every pod that is not wanted, and every object to which no pod
// refers: what was left when the process before this one ended.
func (s *Store) Keep(wanted func(types.UID) bool) error {
	pods, err1 := os.ReadDir(filepath.Join(s.cfg.Dir, podsDir))
	files, err2 := os.ReadDir(filepath.Join(s.cfg.Dir, objectsDir))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	for _, e := range pods {
		if uid := types.UID(e.Name()); !wanted(uid) {
			s.DropPod(uid)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	referred := make(map[string]bool, len(s.refs))
	for ref := range s.refs {
		referred[objectFile(ref)] = true
	}
	for _, e := range files {
		if file := filepath.Join(objectsDir, e.Name()); !referred[file] {
			s.put(file, nil)
		}
	}
	return nil
}

// Run writes what changes until ctx ends, and then what is left.
func (s *Store) Run(ctx context.Context) error {
	defer s.Flush()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.cfg.Flush):
		}
		s.Flush()
	}
}

// Flush writes what has changed.
func (s *Store) Flush() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	batch := s.pending
	s.pending = map[string]content{}
	s.mu.Unlock()
	var first error
	for file, c := range batch {
		if err := s.write(file, c.value); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		s.cfg.Log.Warn("desired state not kept: a boot without a plane would not know of it", "err", first)
	}
}

// damaged says that something that was kept cannot be read.
func (s *Store) damaged(file string, err error) {
	if err == nil {
		err = errors.New("it is of another pod")
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.cfg.Log.Warn("what was kept of the desired state cannot be read: it waits for the plane", "file", file, "err", err)
	}
}
