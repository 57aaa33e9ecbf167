package pods

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"

	"copepod/node/downward"
	"copepod/node/mesh/vnet"
	"copepod/node/runtime"
	"copepod/node/volume"
)

// source is what the downward API tells of this pod.
func (w *worker) source(pod *v1.Pod, ip string) downward.Source {
	return downward.Source{Pod: pod, PodIP: ip, HostIP: w.m.cfg.HostIP, Allocatable: w.m.cfg.Allocatable}
}

// unsupported says what a pod asks of its node that no pod can have here, and
// the way out.
func unsupported(pod *v1.Pod) error {
	switch {
	case pod.Spec.HostNetwork:
		return errors.New("hostNetwork is not supported: pods have a network of their own; use a Service of type NodePort")
	case pod.Spec.HostPID:
		return errors.New("hostPID is not supported: WebAssembly containers are no processes of the node")
	case pod.Spec.HostIPC:
		return errors.New("hostIPC is not supported: WebAssembly containers are no processes of the node")
	case len(pod.Spec.ResourceClaims) > 0:
		return errors.New("resourceClaims are not supported")
	}
	return nil
}

// task is an operation: it runs beside the worker, and what it returns is folded
// into the state. Methods that make one run in the worker, and take from the
// state what the task needs.
type task func(ctx context.Context) func(*state)

// shared is what the containers of a pod share.
type shared struct {
	rt      runtime.Runtime
	stack   *vnet.Stack
	mounted volume.Mounted
}

// setUp makes what the pod's containers share. The address stays the pod's
// through tries that fail.
func (w *worker) setUp() task {
	pod, ip, wanted := w.state.pod, w.address, w.state.sandbox.ip
	return func(ctx context.Context) func(*state) {
		var err error
		if !ip.IsValid() {
			ip, err = w.m.addresses.take(wanted)
		}
		var made shared
		if err == nil {
			made, err = w.makeShared(ctx, pod, ip)
		}
		return func(s *state) {
			w.address = ip
			if err != nil {
				w.notSetUp(ctx, err)
				return
			}
			w.shared = made
			s.sandbox.step, s.sandbox.ip, s.sandbox.refresh = up, ip, made.mounted.Refresh
			s.sandbox.backoff = backoff{}
		}
	}
}

func (w *worker) makeShared(ctx context.Context, pod *v1.Pod, ip netip.Addr) (made shared, err error) {
	if err := unsupported(pod); err != nil {
		return made, err
	}
	if made.rt, err = w.m.cfg.Runtime(ctx, value(pod.Spec.RuntimeClassName)); err != nil {
		return made, err
	}
	if made.mounted, err = w.m.cfg.Volumes.Mount(ctx, w.source(pod, ip.String())); err != nil {
		return made, err
	}
	domain := "svc." + w.m.cfg.ClusterDomain
	made.stack, err = w.m.cfg.Network.Attach(ip, pod.Namespace+"."+domain, domain, w.m.cfg.ClusterDomain)
	return made, err
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// notSetUp plans another try.
func (w *worker) notSetUp(ctx context.Context, err error) {
	b := &w.state.sandbox
	b.step = absent
	if ctx.Err() != nil {
		return // given up: nobody asks why
	}
	b.backoff, b.retryAt = b.backoff.unready(time.Now())
	reason, message := "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err)
	if _, ok := errors.AsType[*volume.Error](err); ok {
		reason, message = "FailedMount", err.Error()
	}
	w.event(nil, v1.EventTypeWarning, reason, message)
}

// refill fills the volumes again. Running programs keep what they have if that
// fails.
func (w *worker) refill() task {
	src := w.source(w.state.pod, w.state.sandbox.ip.String())
	return func(ctx context.Context) func(*state) {
		mounted, err := w.m.cfg.Volumes.Mount(ctx, src)
		return func(s *state) {
			s.sandbox.filling = false
			if err == nil {
				w.shared.mounted, s.sandbox.refresh, s.sandbox.backoff = mounted, mounted.Refresh, backoff{}
				return
			}
			s.sandbox.backoff, s.sandbox.refresh = s.sandbox.backoff.unready(time.Now())
			if ctx.Err() == nil {
				w.event(nil, v1.EventTypeWarning, "FailedMount", err.Error())
			}
		}
	}
}

// tearDown gives back what setUp took. The pod's logs stay until it is gone.
func (w *worker) tearDown() task {
	stack, uid, leaving := w.shared.stack, w.state.pod.UID, w.state.leaving
	return func(context.Context) func(*state) {
		_ = stack.Close()
		if !leaving { // an emptyDir outlives the node's process
			w.m.cfg.Holder.Hold(uid, nil)
			if err := w.m.cfg.Volumes.Unmount(uid); err != nil {
				w.m.cfg.Log.Warn("volumes of a pod not removed", "pod", w.ns+"/"+w.name, "err", err)
			}
			w.m.settled(w)
		}
		return func(s *state) {
			w.giveAddress()
			w.shared = shared{}
			s.sandbox.step = removed
		}
	}
}

// giveAddress gives the pod's address back, if it still has it.
func (w *worker) giveAddress() {
	if w.address.IsValid() {
		w.m.addresses.give(w.address)
		w.address = netip.Addr{}
	}
}
