// Package objects gives pods the ConfigMaps and Secrets that they refer to. An
// object is watched while somebody holds it, one watch however many pods do, so
// that reading it again costs nothing and a change is known at once; nothing
// else of a namespace is ever asked for. It knows ConfigMaps, Secrets and
// holders; it never learns what a holder does with them.
//
//	store, err := objects.New(objects.Config{Client: clientset, Changed: wake})
//	go store.Run(ctx)
//	store.Hold("pod-uid", []objects.Ref{{Kind: objects.ConfigMap, Namespace: "default", Name: "app"}})
//	cm, err := store.ConfigMap(ctx, "default", "app")
//	store.Hold("pod-uid", nil)
package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Kind is a kind of object that pods refer to.
type Kind string

// The kinds, in the words of error messages.
const (
	ConfigMap Kind = "configmap"
	Secret    Kind = "secret"
)

// Ref names an object.
type Ref struct {
	Kind            Kind
	Namespace, Name string
}

// Client is what we need of the API. A clientset's CoreV1() is one.
type Client interface {
	corev1.ConfigMapsGetter
	corev1.SecretsGetter
}

// Cache remembers objects for a time without the API. *desired.Store is one.
type Cache interface {
	Load(ref Ref) (metav1.Object, bool)
	Save(ref Ref, obj metav1.Object) // nil: there is none any more
}

// Config configures a Store.
type Config struct {
	Client  Client
	Changed func(holder types.UID) // an object that the holder holds was made, changed or deleted
	Cache   Cache                  // nil: none
	Log     *slog.Logger
}

// Store is the objects that are held. All its methods may be called at once.
type Store struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	run     context.Context
	offline bool
	watches sync.WaitGroup
	entries map[Ref]*entry
	holders map[types.UID][]Ref
}

// New makes a store.
func New(cfg Config) (*Store, error) {
	if cfg.Client == nil {
		return nil, errors.New("objects: no client given")
	}
	if cfg.Changed == nil {
		cfg.Changed = func(types.UID) {}
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Store{cfg: cfg, entries: map[Ref]*entry{}, holders: map[types.UID][]Ref{}}, nil
}

// Run keeps the watches of held objects until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	s.mu.Lock()
	s.run = ctx
	for _, e := range s.entries {
		s.start(e)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock() // nobody starts a watch after this
	s.run = nil
	s.mu.Unlock()
	s.watches.Wait()
	return nil
}

// Offline says that the API does not answer: what is held and not known yet is
// taken from the cache. What the API says later replaces it.
func (s *Store) Offline(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offline = is; is {
		for _, e := range s.entries {
			e.recall()
		}
	}
}

// Hold says which objects a holder needs from now on, instead of those that it
// held before; none releases it.
func (s *Store) Hold(holder types.UID, refs []Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.holders[holder]
	if len(refs) == 0 {
		delete(s.holders, holder)
	} else {
		s.holders[holder] = slices.Clone(refs)
	}
	for _, ref := range refs {
		e := s.entries[ref]
		if e == nil {
			e = &entry{store: s, ref: ref, holders: map[types.UID]struct{}{}, known: make(chan struct{})}
			s.entries[ref] = e
			if s.offline {
				e.recall()
			}
			s.start(e)
		}
		e.holders[holder] = struct{}{}
	}
	for _, ref := range before {
		if slices.Contains(refs, ref) {
			continue
		}
		e := s.entries[ref]
		delete(e.holders, holder)
		if len(e.holders) == 0 {
			delete(s.entries, ref)
			if e.stop != nil {
				e.stop()
			}
		}
	}
}

// start begins to watch an entry. The caller holds s.mu.
func (s *Store) start(e *entry) {
	if s.run == nil {
		return
	}
	ctx, stop := context.WithCancel(s.run)
	e.stop = stop
	s.watches.Go(func() { e.watch(ctx) })
}

// changed tells the holders of an entry.
func (s *Store) changed(e *entry) {
	s.mu.Lock()
	holders := slices.Collect(maps.Keys(e.holders))
	s.mu.Unlock()
	for _, h := range holders {
		s.cfg.Changed(h)
	}
}

// ConfigMap is the ConfigMap as it is now. Do not change it. An error is the API
// server's; errors.IsNotFound tells whether it does not exist.
func (s *Store) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	obj, err := s.get(ctx, Ref{ConfigMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*v1.ConfigMap), nil
}

// Secret is the Secret as it is now. Do not change it.
func (s *Store) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	obj, err := s.get(ctx, Ref{Secret, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*v1.Secret), nil
}

// get reads a held object from its watch, and any other from the API.
func (s *Store) get(ctx context.Context, ref Ref) (metav1.Object, error) {
	s.mu.Lock()
	e, running := s.entries[ref], s.run != nil
	s.mu.Unlock()
	if e == nil || !running {
		obj, err := s.fetch(ctx, ref)
		return obj, refine(ref, err)
	}
	select {
	case <-e.known:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s %q: %w", ref.Kind, ref.Name, ctx.Err())
	}
	obj, err := e.value()
	return obj, refine(ref, err)
}

// fetch asks the API.
func (s *Store) fetch(ctx context.Context, ref Ref) (metav1.Object, error) {
	if ref.Kind == Secret {
		return s.cfg.Client.Secrets(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	return s.cfg.Client.ConfigMaps(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
}

// missing says that an object does not exist, in the kubelet's words.
type missing struct {
	ref Ref
	err error
}

func (m *missing) Error() string { return fmt.Sprintf("%s %q not found", m.ref.Kind, m.ref.Name) }
func (m *missing) Unwrap() error { return m.err }

func refine(ref Ref, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return &missing{ref, err}
	}
	return fmt.Errorf("%s %q: %w", ref.Kind, ref.Name, err)
}
