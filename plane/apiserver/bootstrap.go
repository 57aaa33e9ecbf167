package apiserver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"

	"copepod/plane/apiserver/local"
	"copepod/plane/auth/rbac"
)

// bootstrapRetry is the pause before what a store without a leader refused is
// tried again.
const bootstrapRetry = 100 * time.Millisecond

// bootstrap writes what every cluster has. It may run on several servers at
// once, and again on a cluster that is years old: it adds and mends, and removes
// nothing.
func (s *Server) bootstrap(ctx context.Context) error {
	for {
		err := s.ensureAll(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !retriable(err) {
			return err
		}
		s.cfg.Log.Warn("bootstrap waits for storage", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(bootstrapRetry):
		}
	}
}

// retriable tells errors that pass from those that we made.
func retriable(err error) bool {
	return !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) && !apierrors.IsBadRequest(err)
}

func (s *Server) ensureAll(ctx context.Context) error {
	ctx, cancel := background(ctx)
	defer cancel()
	if err := s.unready(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.ensureNamespaces, s.ensurePolicy, s.ensureClasses, s.ensureService} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) ensureNamespaces(ctx context.Context) error {
	var objs []local.Object
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		objs = append(objs, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return s.createMissing(ctx, corev1.Resource("namespaces"), objs)
}

// createMissing creates what is not there.
func (s *Server) createMissing(ctx context.Context, gr schema.GroupResource, objs []local.Object) error {
	view := s.local.View()
	objs = slices.DeleteFunc(objs, func(obj local.Object) bool {
		_, ok := view.Get(gr, obj.GetNamespace(), obj.GetName())
		return ok
	})
	_, errs := s.local.CreateAll(ctx, objs)
	for i, err := range errs {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", gr, objs[i].GetName(), err)
		}
	}
	return nil
}

// ensurePolicy adds what the default roles and bindings have gained since the
// cluster was made.
func (s *Server) ensurePolicy(ctx context.Context) error {
	view := s.local.View()
	var missing []local.Object
	for _, wanted := range rbac.DefaultPolicy() {
		gr, obj := policyResource(wanted), wanted.(local.Object)
		var existing runtime.Object
		if found, ok := view.Get(gr, obj.GetNamespace(), obj.GetName()); ok {
			existing = found
		}
		result, change := rbac.Reconcile(existing, wanted)
		object := result.(local.Object)
		var err error
		switch change {
		case rbac.Create:
			missing = append(missing, object)
		case rbac.Update:
			_, err = s.local.Update(ctx, object)
		case rbac.Recreate:
			if err = s.local.Delete(ctx, gr, obj.GetNamespace(), obj.GetName(), metav1.DeleteOptions{}); err == nil || apierrors.IsNotFound(err) {
				_, err = s.local.Create(ctx, object)
			}
		}
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("default policy: %s %s: %w", gr, obj.GetName(), err)
		}
	}
	_, errs := s.local.CreateAll(ctx, missing)
	for i, err := range errs {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("default policy: %s: %w", missing[i].GetName(), err)
		}
	}
	return nil
}

func policyResource(obj runtime.Object) schema.GroupResource {
	switch obj.(type) {
	case *rbacv1.ClusterRole:
		return rbacv1.Resource("clusterroles")
	case *rbacv1.ClusterRoleBinding:
		return rbacv1.Resource("clusterrolebindings")
	case *rbacv1.Role:
		return rbacv1.Resource("roles")
	case *rbacv1.RoleBinding:
		return rbacv1.Resource("rolebindings")
	}
	panic(fmt.Sprintf("apiserver: %T in the default policy", obj))
}

// ensureClasses creates a RuntimeClass for each way that nodes run modules, and
// the two priorities that Kubernetes reserves.
func (s *Server) ensureClasses(ctx context.Context) error {
	var ways []local.Object
	for _, handler := range []string{"wasm", "wasm-cgi", "wasm-http"} {
		ways = append(ways, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: handler}, Handler: handler})
	}
	if err := s.createMissing(ctx, nodev1.Resource("runtimeclasses"), ways); err != nil {
		return err
	}
	return s.createMissing(ctx, schedulingv1.Resource("priorityclasses"), []local.Object{
		&schedulingv1.PriorityClass{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-node-critical"},
			Value:       2000001000,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
		&schedulingv1.PriorityClass{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-cluster-critical"},
			Value:       2000000000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
	})
}

// ensureService makes the `kubernetes` Service, by which pods find the API, and
// puts this server behind it.
func (s *Server) ensureService(ctx context.Context) error {
	labels := map[string]string{"component": "apiserver", "provider": "kubernetes"}
	ip := s.services.First().String()
	err := s.createMissing(ctx, corev1.Resource("services"), []local.Object{&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: labels},
		Spec: corev1.ServiceSpec{
			Type:      corev1.ServiceTypeClusterIP,
			ClusterIP: ip, ClusterIPs: []string{ip},
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: 443,
				TargetPort: intstr.FromInt32(int32(s.cfg.Advertise.Port())),
			}},
		},
	}})
	if err != nil {
		return err
	}
	return s.ensureServers(ctx)
}

// ensureServers lists this server and its peers behind the `kubernetes` Service.
// It writes below validation: on one machine the only address may be a loopback
// one, which nobody else may put there.
func (s *Server) ensureServers(ctx context.Context) error {
	servers := []netip.AddrPort{s.cfg.Advertise}
	if s.cfg.Peers != nil {
		servers = append(servers, s.cfg.Peers()...)
	}
	gr, slice := discoveryv1.Resource("endpointslices"), serverSlice(servers)
	change := local.Change{Resource: gr, New: slice}
	if old, ok := s.local.View().Get(gr, slice.Namespace, slice.Name); ok {
		before := old.(*discoveryv1.EndpointSlice)
		if equality.Semantic.DeepEqual(before.Endpoints, slice.Endpoints) && equality.Semantic.DeepEqual(before.Ports, slice.Ports) {
			return nil
		}
		slice.ObjectMeta = *before.ObjectMeta.DeepCopy()
		slice.Generation++
		change.Old = old
	} else {
		rest.FillObjectMetaSystemFields(slice)
		slice.Generation = 1
	}
	err := s.objects.Write(ctx, []local.Change{change})[0].Err
	if storage.IsExist(err) || storage.IsConflict(err) { // a peer was faster
		return nil
	}
	return err
}

// serversInterval is how late a server that came or went is seen behind the
// `kubernetes` Service.
const serversInterval = 5 * time.Second

// keepServers follows the peers until ctx ends.
func (s *Server) keepServers(ctx context.Context) {
	tick := time.NewTicker(serversInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		write, cancel := background(ctx)
		if err := s.ensureServers(write); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("servers not listed behind the Service kubernetes", "err", err)
		}
		cancel()
	}
}

// serverSlice lists the servers behind the `kubernetes` Service. All servers of
// a cluster listen on one port.
func serverSlice(servers []netip.AddrPort) *discoveryv1.EndpointSlice {
	name, protocol, ready := "https", corev1.ProtocolTCP, true
	port := int32(servers[0].Port())
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: "kubernetes",
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	slices.SortFunc(servers, netip.AddrPort.Compare)
	for _, s := range slices.Compact(servers) {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{s.Addr().String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return slice
}

// sweepInterval is how often claims that no service uses are looked for.
const sweepInterval = 10 * time.Minute

// sweepServices gives back addresses and ports that a crash left claimed.
func (s *Server) sweepServices(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var all []*corev1.Service
		for obj := range s.local.View().List(corev1.Resource("services"), "") {
			all = append(all, obj.(*corev1.Service))
		}
		sweep, cancel := background(ctx)
		if err := s.services.Sweep(sweep, all); err != nil {
			s.cfg.Log.Warn("claims of services not swept", "err", err)
		}
		cancel()
	}
}
