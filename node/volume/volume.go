// Package volume makes the volumes of pods: directories below the node's data
// directory, filled from ConfigMaps, Secrets, the downward API and tokens, and
// kept as those change. It knows volumes, files and where their content comes
// from; it never learns what a container is beyond the mounts that it asks for.
//
//	m, err := volume.New(volume.Config{Dir: dir, Objects: objects, Tokens: tokens})
//	mounted, err := m.Mount(ctx, downward.Source{Pod: pod, PodIP: ip})
//	mounts, done, err := mounted.Mounts(container, expand)
//	err = m.Unmount(pod.UID)
//
// A pod's volumes lie at DIR/<uid>/<name>; what else it has there begins with
// "..", which no volume's name does. Files of a ConfigMap and the like are
// replaced all at once, by one symbolic link "..data", as Kubernetes
// does it: a reader sees the old set or the new one.
package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/downward"
	"copepod/wasmrt"
)

// Objects gives the ConfigMaps and Secrets of volumes.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Tokens gives tokens of a pod's service account, bound to the pod.
type Tokens interface {
	Token(ctx context.Context, pod *v1.Pod, audience string, lifetime time.Duration) (token string, expires time.Time, err error)
}

// Config configures a Manager.
type Config struct {
	Dir       string
	Objects   Objects
	Tokens    Tokens
	HostPaths []string // directories of the node below which hostPath volumes may point; none: no hostPath
	Log       *slog.Logger

	EmptyDirBytes int64 // what an emptyDir without a sizeLimit may hold; 0: 4 GiB
}

// Manager makes and removes the volumes of one node.
type Manager struct {
	cfg Config

	mu     sync.Mutex // guards what follows
	tokens map[types.UID]map[string]token
	quotas map[types.UID]map[string]*wasmrt.Quota
}

// Error says which volume could not be made, and why.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap is the reason.
func (e *Error) Unwrap() error { return e.Err }

// New makes a manager, and its directory.
func New(cfg Config) (*Manager, error) {
	if cfg.Dir == "" || cfg.Objects == nil || cfg.Tokens == nil {
		return nil, errors.New("volumes: Dir, Objects and Tokens must be given")
	}
	for _, p := range cfg.HostPaths {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("volumes: host path %q: want an absolute one", p)
		}
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.EmptyDirBytes = cmp.Or(cfg.EmptyDirBytes, emptyDirBytes)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	return &Manager{cfg: cfg, tokens: map[types.UID]map[string]token{}, quotas: map[types.UID]map[string]*wasmrt.Quota{}}, nil
}

// Mounted are the volumes of one pod.
type Mounted struct {
	Refresh time.Time // when a token must be renewed by mounting again; zero: never

	dir     string // of the pod
	volumes map[string]mountedVolume
}

type mountedVolume struct {
	path     string
	readOnly bool
	made     bool // its content is ours, not the guests'
	quota    *wasmrt.Quota
}

// PodDir is where a pod keeps what it has on disk. It exists once Mount has
// returned.
func (m *Manager) PodDir(uid types.UID) string { return filepath.Join(m.cfg.Dir, string(uid)) }

// Mount makes the pod's volumes, or brings them up to date: it may be called
// again at any time. Its errors are *Error.
func (m *Manager) Mount(ctx context.Context, src downward.Source) (Mounted, error) {
	pod := src.Pod
	if id := string(pod.UID); id == "" || !filepath.IsLocal(id) || strings.ContainsAny(id, `/\`) {
		return Mounted{}, &Error{"", fmt.Errorf("pod UID %q cannot be part of a path", id)}
	}
	out := Mounted{dir: m.PodDir(pod.UID), volumes: make(map[string]mountedVolume, len(pod.Spec.Volumes))}
	if err := makeDir(out.dir); err != nil {
		return Mounted{}, &Error{"", err}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		made, refresh, err := m.mount(ctx, src, out.dir, v)
		if err != nil {
			return Mounted{}, &Error{v.Name, err}
		}
		out.volumes[v.Name] = made
		if !refresh.IsZero() && (out.Refresh.IsZero() || refresh.Before(out.Refresh)) {
			out.Refresh = refresh
		}
	}
	return out, nil
}

func (m *Manager) mount(ctx context.Context, src downward.Source, dir string, v *v1.Volume) (mountedVolume, time.Time, error) {
	path := filepath.Join(dir, v.Name)
	switch {
	case v.EmptyDir != nil:
		if err := makeDir(path); err != nil {
			return mountedVolume{}, time.Time{}, err
		}
		quota, err := m.quota(src.Pod.UID, v, path)
		return mountedVolume{path: path, quota: quota}, time.Time{}, err
	case v.HostPath != nil:
		host, err := m.hostPath(v.HostPath)
		return mountedVolume{path: host}, time.Time{}, err
	}
	sources, mode, ok := projections(v)
	if !ok {
		return mountedVolume{}, time.Time{}, fmt.Errorf("this kind of volume is not supported; use emptyDir, configMap, secret, projected or downwardAPI")
	}
	files, refresh, err := m.collect(ctx, src, v.Name, sources, mode)
	if err != nil {
		return mountedVolume{}, time.Time{}, err
	}
	return mountedVolume{path: path, readOnly: true, made: true}, refresh, replace(path, files)
}

// makeDir makes a directory unless it is there. Its parent exists: a directory
// costs more than most of what a node does for a pod, so none is made twice.
func makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// hostPath checks that a directory of the node may be shown to pods.
func (m *Manager) hostPath(v *v1.HostPathVolumeSource) (string, error) {
	allowed := func(path string) bool {
		for _, p := range m.cfg.HostPaths {
			if rel, err := filepath.Rel(p, path); err == nil && filepath.IsLocal(rel) {
				return true
			}
		}
		return false
	}
	refuse := func(path string) (string, error) {
		return "", fmt.Errorf("hostPath %q is not allowed on this node; allow it in the node's configuration, or use emptyDir", path)
	}
	path := filepath.Clean(v.Path)
	if !allowed(path) {
		return refuse(path)
	}
	if v.Type != nil && (*v.Type == v1.HostPathDirectoryOrCreate) {
		if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // the mode that Kubernetes documents
			return "", err
		}
	}
	// What counts is where it leads.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if !allowed(real) {
		return refuse(real)
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return "", err
	case v.Type != nil && *v.Type == v1.HostPathDirectory && !info.IsDir():
		return "", fmt.Errorf("hostPath type check failed: %s is not a directory", path)
	case v.Type != nil && *v.Type == v1.HostPathFile && !info.Mode().IsRegular():
		return "", fmt.Errorf("hostPath type check failed: %s is not a file", path)
	}
	return real, nil
}

// Unmount removes everything that a pod has on disk.
func (m *Manager) Unmount(uid types.UID) error {
	m.mu.Lock()
	delete(m.tokens, uid)
	delete(m.quotas, uid)
	m.mu.Unlock()
	if uid == "" || !filepath.IsLocal(string(uid)) {
		return nil
	}
	return os.RemoveAll(m.PodDir(uid))
}

// Keep removes what is left of every pod whose UID is not wanted.
func (m *Manager) Keep(wanted func(uid string) bool) error {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !wanted(e.Name()) {
			errs = append(errs, m.Unmount(types.UID(e.Name())))
		}
	}
	return errors.Join(errs...)
}
