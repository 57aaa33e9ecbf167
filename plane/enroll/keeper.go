package enroll

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/gossip"
	"copepod/plane/auth/gossipkeys"
	"copepod/plane/controllers/api"
)

const (
	// keepInterval is between two looks at whether the nodes have followed a
	// rotation.
	keepInterval = 250 * time.Millisecond
	// sweepInterval is between two looks for what nobody needs any more.
	sweepInterval = 10 * time.Minute
	// showSpent is how long a token that can no longer be used is kept, so that
	// its late user hears why.
	showSpent = 24 * time.Hour
	keepRetry = time.Second
	// showInterval is between two looks at what Nodes show of Raft.
	showInterval = time.Second
)

var errNoRing = errors.New("gossip keys are not stored yet")

// Keep does what one machine of the cluster must: it stores the first gossip
// key, replaces it whenever a machine was put out, and removes what has expired.
// It runs on the leader, until ctx ends.
func (s *Server) Keep(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if s.cfg.Raft != nil {
		work.Go(func() { s.showRaft(ctx) })
	}
	return s.keepKeys(ctx)
}

// showRaft keeps AnnotationRaft of all Nodes as Raft has them.
func (s *Server) showRaft(ctx context.Context) {
	for ctx.Err() == nil {
		raft := s.cfg.Raft()
		for obj := range s.cfg.Objects().View().List(api.Nodes, "") {
			node, ok := obj.(*corev1.Node)
			if !ok || node.Annotations[AnnotationRaft] == raft[node.Name] {
				continue
			}
			next := node.DeepCopy()
			if next.Annotations == nil {
				next.Annotations = map[string]string{}
			}
			next.Annotations[AnnotationRaft] = raft[node.Name]
			if raft[node.Name] == "" {
				delete(next.Annotations, AnnotationRaft)
			}
			_, err := s.cfg.Objects().Update(ctx, next)
			if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				s.log.Info("part in the plane not shown", "node", node.Name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(showInterval):
		}
	}
}

func (s *Server) keepKeys(ctx context.Context) error {
	sweep := time.Now()
	for ctx.Err() == nil {
		changes, err := s.cfg.Objects().Watch(ctx, api.ConfigMaps, s.cfg.Objects().View().Revision())
		if err != nil {
			return fmt.Errorf("enroll: %w", err)
		}
		for open := true; open && ctx.Err() == nil; {
			again, err := s.turn(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.Warn("gossip keys not advanced", "err", err)
				again = keepRetry
			}
			if now := time.Now(); !now.Before(sweep) {
				s.sweep(ctx, now)
				sweep = now.Add(sweepInterval)
			}
			if again == 0 || again > sweepInterval {
				again = time.Until(sweep)
			}
			select {
			case <-ctx.Done():
			case <-time.After(again):
			case _, open = <-changes: // a revocation is one
			}
		}
	}
	return nil
}

// turn takes the gossip keys one step further, if it is time.
func (s *Server) turn(ctx context.Context) (again time.Duration, err error) {
	view := s.cfg.Objects().View()
	ring, over, err := ringOf(view)
	if errors.Is(err, errNoRing) {
		if ring, err = OpenRing(s.cfg.Dir); err != nil {
			return 0, err
		}
		return time.Millisecond, s.storeRing(ctx, ring, nil)
	}
	if err != nil {
		return 0, err
	}
	entries, err := revokedIn(view)
	if err != nil {
		return 0, err
	}
	next, again := ring.Next(gossipkeys.Facts{
		Now: time.Now(), Want: max(entries.Sequence, ring.Covers), Acked: acked(view, ring.Generation), Fresh: gossip.NewKey,
	})
	if next.Phase == ring.Phase {
		if again > 0 {
			again = min(again, keepInterval)
		}
		return again, nil
	}
	s.log.Info("gossip keys turn", "phase", next.Phase, "generation", next.Generation, "key", gossip.IDOf(next.Keys[0]))
	return keepInterval, s.storeRing(ctx, next, over)
}

// ringOf reads the stored gossip keys; without any the error is errNoRing.
func ringOf(view api.View) (gossipkeys.Ring, *corev1.Secret, error) {
	obj, ok := view.Get(api.Secrets, Namespace, KeysName)
	secret, isSecret := obj.(*corev1.Secret)
	if !ok || !isSecret {
		return gossipkeys.Ring{}, nil, errNoRing
	}
	ring, err := gossipkeys.Decode(secret.Data[keysField])
	return ring, secret, err
}

func (s *Server) storeRing(ctx context.Context, ring gossipkeys.Ring, over *corev1.Secret) error {
	data, err := ring.Encode()
	if err != nil {
		return err
	}
	if over == nil {
		_, err = s.cfg.Objects().Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: KeysName},
			Type:       keysType, Data: map[string][]byte{keysField: data},
		})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	next := over.DeepCopy() // with its version: of two leaders one wins
	next.Data = map[string][]byte{keysField: data}
	_, err = s.cfg.Objects().Update(ctx, next)
	return err
}

// acked tells whether every node that is alive says that it has the keys.
func acked(view api.View, generation uint64) bool {
	for obj := range view.List(api.Nodes, "") {
		node, ok := obj.(*corev1.Node)
		if !ok || !nodeReady(node) {
			continue
		}
		has, err := strconv.ParseUint(node.Annotations[AnnotationKeys], 10, 64)
		if err != nil || has < generation {
			return false
		}
	}
	return true
}

// sweep removes tokens that nobody can use, and identities of machines that
// cannot come back.
func (s *Server) sweep(ctx context.Context, now time.Time) {
	view := s.cfg.Objects().View()
	for obj := range view.List(api.Secrets, Namespace) {
		secret, ok := obj.(*corev1.Secret)
		if !ok || !expired(view, secret, now) || ctx.Err() != nil {
			continue
		}
		version := secret.ResourceVersion
		err := s.cfg.Objects().Delete(ctx, api.Secrets, Namespace, secret.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{ResourceVersion: &version},
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			s.log.Warn("expired secret not removed", "secret", secret.Name, "err", err)
		}
	}
}

func expired(view api.View, secret *corev1.Secret, now time.Time) bool {
	switch secret.Type {
	case TokenType:
		rec, err := recordOf(secret)
		return err == nil && !rec.Live(now) && now.Sub(rec.Expires) > showSpent
	case IdentityType:
		id, err := decodeIdentity(secret)
		if err != nil || now.Sub(id.Issued) < RejoinWindow {
			return false
		}
		_, exists := view.Get(api.Nodes, "", id.Name)
		return !exists
	}
	return false
}
