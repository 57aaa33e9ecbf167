package enroll

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"copepod/plane/auth/gossipkeys"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/revoke"
)

const (
	followRetry  = time.Second
	followExpiry = 10 * time.Minute // of one watch; then the object is read anew
)

// A FollowConfig says who follows. All fields but Keyring and Log are required.
type FollowConfig struct {
	Dir     string
	Node    string
	Client  kubernetes.Interface // as the node
	Revoked *revoke.List
	Keyring gossipkeys.Keyring // of gossip; nil: there is none
	Log     *slog.Logger
}

// Follow keeps a machine's list of revoked machines and its gossip keys as the
// cluster has them, on disk too, and tells the leader by AnnotationKeys how far
// it is. Every machine runs it, until ctx ends. A machine that was put out hears
// it here: the error is ErrRevoked, and nothing that it does is wanted any more.
func Follow(ctx context.Context, cfg FollowConfig) error {
	if cfg.Dir == "" || cfg.Node == "" || cfg.Client == nil || cfg.Revoked == nil {
		return errors.New("enroll: follow: Dir, Node, Client and Revoked are needed")
	}
	ring, err := OpenRing(cfg.Dir)
	if err != nil {
		return err
	}
	f := &follower{FollowConfig: cfg, ring: ring, log: cmp.Or(cfg.Log, slog.Default()).With("part", "enroll")}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.object(ctx, f.watchRevoked, f.setRevoked) })
	g.Go(func() error { return f.object(ctx, f.watchKeys, f.setKeys) })
	return g.Wait()
}

// ErrRevoked says that this machine is not a member any more.
var ErrRevoked = errors.New("this machine is not a member of the cluster any more: it left or was revoked; to come back, join anew with `copepod join` and a fresh --data-dir")

// revoked tells the answer to a machine that was put out.
func revoked(err error) bool {
	return apierrors.IsUnauthorized(err) && apierrors.HasStatusCause(err, causeRevoked)
}

// LoadRevoked gives a list what the machine of a data directory heard last, so
// that a start without a plane lets nobody in who was put out.
func LoadRevoked(dir string, list *revoke.List) error {
	data, err := keyfile.Read(filepath.Join(dir, filepath.FromSlash(revokedFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	entries, err := revoke.Decode(data)
	if err != nil {
		return err
	}
	list.Set(entries)
	return nil
}

type follower struct {
	FollowConfig
	ring gossipkeys.Ring // that Keyring has; only the goroutine of the keys uses it
	log  *slog.Logger
}

// object hands over one object as it is and whenever it changes.
func (f *follower) object(ctx context.Context, open func(context.Context, metav1.ListOptions) (watch.Interface, error), set func(context.Context, runtime.Object) error) error {
	for ctx.Err() == nil {
		err := f.once(ctx, open, set)
		if revoked(err) {
			return fmt.Errorf("node %q: %w", f.Node, ErrRevoked)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Info("cluster's lists are asked for again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followRetry):
		}
	}
	return nil
}

// once watches from nothing: the first event is the object as it is now.
func (f *follower) once(ctx context.Context, open func(context.Context, metav1.ListOptions) (watch.Interface, error), set func(context.Context, runtime.Object) error) error {
	ctx, cancel := context.WithTimeout(ctx, followExpiry)
	defer cancel()
	w, err := open(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			switch e.Type {
			case watch.Added, watch.Modified:
				if err := set(ctx, e.Object); err != nil {
					return err
				}
			case watch.Error:
				return fmt.Errorf("watch: %v", e.Object)
			}
		}
	}
}

func named(name string) string { return fields.OneTermEqualSelector("metadata.name", name).String() }

func (f *follower) watchRevoked(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.FieldSelector = named(RevokedName)
	return f.Client.CoreV1().ConfigMaps(Namespace).Watch(ctx, o)
}

func (f *follower) watchKeys(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.FieldSelector = named(KeysName)
	return f.Client.CoreV1().Secrets(Namespace).Watch(ctx, o)
}

func (f *follower) setRevoked(_ context.Context, obj runtime.Object) error {
	cm, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return fmt.Errorf("%T is not a config map", obj)
	}
	entries, err := entriesOf(cm)
	if err != nil {
		return err
	}
	if entries.Sequence <= f.Revoked.Entries().Sequence && entries.Sequence != 0 {
		return nil
	}
	data, err := entries.Encode()
	if err != nil {
		return err
	}
	f.Revoked.Set(entries)
	return keyfile.Write(filepath.Join(f.Dir, filepath.FromSlash(revokedFile)), data)
}

func (f *follower) setKeys(ctx context.Context, obj runtime.Object) error {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return fmt.Errorf("%T is not a secret", obj)
	}
	ring, err := gossipkeys.Decode(secret.Data[keysField])
	if err != nil {
		return err
	}
	if err := saveRing(f.Dir, ring); err != nil { // before it is used
		return err
	}
	if f.Keyring != nil {
		if err := gossipkeys.Apply(f.Keyring, f.ring, ring); err != nil {
			return err
		}
	}
	f.ring = ring
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{AnnotationKeys: strconv.FormatUint(ring.Generation, 10)},
	}})
	if err != nil {
		return err
	}
	// A node that is not registered yet does this with its next try.
	_, err = f.Client.CoreV1().Nodes().Patch(ctx, f.Node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
