package endpointslice

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/pods"
)

const (
	// maxEndpoints is how many endpoints a slice holds at most.
	maxEndpoints = 100
	// ManagedBy is the value of endpointslice.kubernetes.io/managed-by on the
	// slices that this controller answers for.
	ManagedBy = "endpointslice-controller.k8s.io"
)

var serviceKind = corev1.SchemeGroupVersion.WithKind("Service")

// steps is the writes that bring the slices of one Service up to date.
type steps struct{ create, update, remove []*discoveryv1.EndpointSlice }

// plan compares the slices of a Service with its pods. Endpoints stay in the
// slice that they are in; new ones fill slices that change anyway, then the
// fullest that has room, then new slices. So a change of one pod writes one
// slice.
func plan(svc *corev1.Service, members []*pods.Pod, have []*discoveryv1.EndpointSlice, zone func(node string) string) steps {
	var s steps
	byGroup := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range have {
		key := groupKey(slice.AddressType, slice.Ports)
		byGroup[key] = append(byGroup[key], slice)
	}
	labels := labelsFor(svc)
	for _, g := range desired(svc, members, zone) {
		s.fit(svc, g, byGroup[g.key()], labels)
		delete(byGroup, g.key())
	}
	for _, key := range slices.Sorted(maps.Keys(byGroup)) {
		s.remove = append(s.remove, byGroup[key]...)
	}
	s.reuse()
	return s
}

// reuse turns a slice to remove and one to create into one update.
func (s *steps) reuse() {
	s.create = slices.DeleteFunc(s.create, func(fresh *discoveryv1.EndpointSlice) bool {
		at := slices.IndexFunc(s.remove, func(old *discoveryv1.EndpointSlice) bool { return old.AddressType == fresh.AddressType })
		if at < 0 {
			return false
		}
		next := *s.remove[at]
		next.Labels, next.Ports, next.Endpoints = fresh.Labels, fresh.Ports, fresh.Endpoints
		s.update = append(s.update, &next)
		s.remove = slices.Delete(s.remove, at, at+1)
		return true
	})
}

// draft is a slice on its way to what it should hold.
type draft struct {
	slice     *discoveryv1.EndpointSlice // nil: a new one
	endpoints []discoveryv1.Endpoint
	changed   bool
}

// fit plans one group.
func (s *steps) fit(svc *corev1.Service, g *group, have []*discoveryv1.EndpointSlice, labels map[string]string) {
	drafts, left := settle(g, have, labels)
	drafts = fill(drafts, left)
	if len(drafts) == 0 {
		drafts = []*draft{{}}
	}
	empty := !slices.ContainsFunc(drafts, func(d *draft) bool { return len(d.endpoints) > 0 })
	for i, d := range drafts {
		switch {
		case d.slice == nil:
			s.create = append(s.create, newSlice(svc, g, d.endpoints, labels))
		case len(d.endpoints) == 0 && !(empty && i == 0): // a group without endpoints keeps one slice
			s.remove = append(s.remove, d.slice)
		case d.changed:
			next := *d.slice // shares what does not change
			next.Labels, next.Endpoints = labels, orEmpty(d.endpoints)
			s.update = append(s.update, &next)
		}
	}
}

// settle leaves endpoints where they are and returns those that are nowhere yet.
func settle(g *group, have []*discoveryv1.EndpointSlice, labels map[string]string) ([]*draft, []discoveryv1.Endpoint) {
	want := make(map[types.UID]*discoveryv1.Endpoint, len(g.endpoints))
	for i := range g.endpoints {
		want[g.endpoints[i].TargetRef.UID] = &g.endpoints[i]
	}
	slices.SortFunc(have, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	drafts := make([]*draft, len(have))
	for i, slice := range have {
		d := &draft{slice: slice, changed: !maps.Equal(slice.Labels, labels)}
		for j := range slice.Endpoints {
			e := &slice.Endpoints[j]
			var next *discoveryv1.Endpoint
			if e.TargetRef != nil {
				next = want[e.TargetRef.UID]
				delete(want, e.TargetRef.UID)
			}
			if next == nil {
				d.changed = true
				continue
			}
			d.changed = d.changed || !same(e, next)
			d.endpoints = append(d.endpoints, *next)
		}
		drafts[i] = d
	}
	left := make([]discoveryv1.Endpoint, 0, len(want))
	for _, e := range want {
		left = append(left, *e)
	}
	slices.SortFunc(left, func(a, b discoveryv1.Endpoint) int { return cmp.Compare(a.TargetRef.Name, b.TargetRef.Name) })
	return drafts, left
}

// fill finds places for endpoints that are nowhere yet.
func fill(drafts []*draft, left []discoveryv1.Endpoint) []*draft {
	put := func(d *draft) {
		n := min(maxEndpoints-len(d.endpoints), len(left))
		if n > 0 {
			d.endpoints = append(d.endpoints, left[:n]...)
			d.changed = true
			left = left[n:]
		}
	}
	for _, d := range drafts {
		if d.changed {
			put(d)
		}
	}
	for len(left) >= maxEndpoints {
		d := &draft{}
		put(d)
		drafts = append(drafts, d)
	}
	if len(left) == 0 {
		return drafts
	}
	var best *draft
	for _, d := range drafts {
		if len(d.endpoints)+len(left) <= maxEndpoints && (best == nil || len(d.endpoints) > len(best.endpoints)) {
			best = d
		}
	}
	if best == nil {
		best = &draft{}
		drafts = append(drafts, best)
	}
	put(best)
	return drafts
}

// orEmpty keeps the field, which is required, out of null.
func orEmpty(list []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	if list == nil {
		return []discoveryv1.Endpoint{}
	}
	return list
}

func newSlice(svc *corev1.Service, g *group, endpoints []discoveryv1.Endpoint, labels map[string]string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, GenerateName: svc.Name + "-", Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, serviceKind)},
		},
		AddressType: g.family, Ports: g.ports, Endpoints: orEmpty(endpoints),
	}
}

func labelsFor(svc *corev1.Service) map[string]string {
	labels := maps.Clone(svc.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[discoveryv1.LabelServiceName] = svc.Name
	labels[discoveryv1.LabelManagedBy] = ManagedBy
	return labels
}
