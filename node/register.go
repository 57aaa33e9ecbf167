package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	goruntime "runtime"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// The times of a node's heartbeat, as the kubelet has them.
const (
	leaseDuration  = 40 * time.Second
	renewInterval  = 10 * time.Second // a quarter of the lease
	statusInterval = 5 * time.Minute  // of a status that says nothing new
	retryInterval  = 200 * time.Millisecond
	retryMost      = 5 * time.Second
)

// beat registers the node, and then says that it lives: by its lease, which
// costs little, and by its status when that has changed or is old.
func (n *Node) beat(ctx context.Context) error {
	for wait := retryInterval; ; wait = min(2*wait, retryMost) {
		err := n.register(ctx)
		if err == nil {
			break
		}
		n.refused.Store(apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err))
		if ctx.Err() == nil {
			n.log.Warn("node not registered", "err", err)
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
	close(n.registered)
	said, wait, away := time.Now(), time.Duration(0), false
	for n.rest(ctx, wait) {
		wait = renewInterval
		back := away
		if err := n.renew(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("lease not renewed", "err", err)
			wait, away, back = min(retryMost, renewInterval), true, false
		} else {
			away = false
		}
		if back {
			n.writer.Retry() // the API answers again
		}
		done := n.told.Swap(nil)
		news := back || done != nil || !n.hasRange() || n.doubted.Load() || n.offered.Swap(false) || changed(n.said, conditions(n.load(), n.healthy()))
		if !news && time.Since(said) < statusInterval {
			continue
		}
		if err := n.register(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("node status not written", "err", err)
			if done != nil {
				wait = retryInterval
				n.told.CompareAndSwap(nil, done)
			}
			continue
		}
		n.doubted.Store(false)
		if said = time.Now(); done != nil {
			close(*done)
		}
	}
	return nil
}

// rest waits until it is time to beat, or somebody cannot wait; false if ctx
// ended first.
func (n *Node) rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-n.poked:
	}
	return ctx.Err() == nil
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// load measures the machine.
func (n *Node) load() load {
	free, size := diskBytes(n.cfg.Dir)
	return load{memoryFree: memoryFree(), diskFree: free, disk: size, processesFree: processesFree()}
}

// register makes the Node object, or brings it up to date. Others write it too:
// what they did in between is read again.
func (n *Node) register(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error { return n.write(ctx) })
}

func (n *Node) write(ctx context.Context) error {
	nodes := n.api.CoreV1().Nodes()
	labels := n.labels()
	node, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		node = &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Labels: labels}}
		n.annotate(node)
		node, err = nodes.Create(ctx, node, metav1.CreateOptions{})
	case err == nil:
		node = node.DeepCopy()
		stale := n.annotate(node) || !contains(node.Labels, labels)
		if n.schedulable(node) || stale {
			if node.Labels == nil {
				node.Labels = map[string]string{}
			}
			maps.Copy(node.Labels, labels)
			node, err = nodes.Update(ctx, node, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	if err := n.useRange(node.Spec.PodCIDR); err != nil {
		return fmt.Errorf("node %s: spec.podCIDR: %w", n.cfg.Name, err)
	}
	now := conditions(n.load(), n.healthy())
	node = node.DeepCopy()
	node.Status = n.status(node.Status, now)
	if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node %s: status: %w", n.cfg.Name, err)
	}
	n.said = now
	return nil
}

func (n *Node) labels() map[string]string {
	labels := map[string]string{
		v1.LabelHostname:   n.cfg.Name,
		v1.LabelOSStable:   goruntime.GOOS,
		v1.LabelArchStable: goruntime.GOARCH,
	}
	maps.Copy(labels, n.cfg.Labels)
	return labels
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if w, ok := have[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// status is what the node says of itself, laid over what is there.
func (n *Node) status(there v1.NodeStatus, now []v1.NodeCondition) v1.NodeStatus {
	s := there
	s.Capacity, s.Allocatable = n.machine.capacity, n.machine.capacity
	s.NodeInfo = n.machine.info
	s.Addresses = []v1.NodeAddress{
		{Type: v1.NodeInternalIP, Address: n.cfg.Addr.String()},
		{Type: v1.NodeHostName, Address: n.cfg.Name},
	}
	if tcp, ok := n.cfg.Listener.Addr().(*net.TCPAddr); ok {
		s.DaemonEndpoints.KubeletEndpoint.Port = int32(tcp.Port) //nolint:gosec // a port
	}
	s.Conditions = merge(there.Conditions, now, metav1.Now())
	return s
}

// renew keeps the node's lease. What was written last is what it expects to
// find, so that a beat is one request.
func (n *Node) renew(ctx context.Context) error {
	leases := n.api.CoordinationV1().Leases(v1.NamespaceNodeLease)
	now := metav1.NowMicro()
	var err error
	if n.lease != nil {
		next := n.lease.DeepCopy()
		next.Spec.RenewTime = &now
		if n.lease, err = leases.Update(ctx, next, metav1.UpdateOptions{}); err == nil {
			return nil
		}
		n.lease = nil
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("lease %s: %w", n.cfg.Name, err)
		}
	}
	found, err := leases.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if err == nil {
		found = found.DeepCopy()
		found.Spec.HolderIdentity, found.Spec.LeaseDurationSeconds, found.Spec.RenewTime = n.leaseSpec(now)
		n.lease, err = leases.Update(ctx, found, metav1.UpdateOptions{})
	} else if apierrors.IsNotFound(err) {
		fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name, Namespace: v1.NamespaceNodeLease}}
		fresh.Spec.HolderIdentity, fresh.Spec.LeaseDurationSeconds, fresh.Spec.RenewTime = n.leaseSpec(now)
		if owner := n.owner(ctx); owner != nil {
			fresh.OwnerReferences = []metav1.OwnerReference{*owner}
		}
		n.lease, err = leases.Create(ctx, fresh, metav1.CreateOptions{})
	}
	if err != nil {
		n.lease = nil
		return fmt.Errorf("lease %s: %w", n.cfg.Name, err)
	}
	return nil
}

func (n *Node) leaseSpec(now metav1.MicroTime) (holder *string, seconds *int32, renewed *metav1.MicroTime) {
	name, d := n.cfg.Name, int32(leaseDuration/time.Second)
	return &name, &d, &now
}

// owner makes the lease go with its node.
func (n *Node) owner(ctx context.Context) *metav1.OwnerReference {
	node, err := n.api.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}
