package defaults

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresources "k8s.io/component-helpers/resource"
)

// requestsFromLimits requests what a container is limited to, where it does not
// say what it requests.
func requestsFromLimits(containers []corev1.Container) {
	for i := range containers {
		r := &containers[i].Resources
		if r.Limits == nil {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		fillMissing(r.Requests, r.Limits)
	}
}

// podLevelResources completes spec.resources (KEP-2837) when a part of it is
// given: huge page limits and requests come from the containers, a request that
// no container has is the pod's limit.
func podLevelResources(p *corev1.Pod) {
	r := p.Spec.Resources
	if r == nil || len(r.Limits)+len(r.Requests) == 0 {
		return
	}
	limits := maps.Clone(r.Limits)
	for name, sum := range podresources.AggregateContainerLimits(p, podresources.PodResourcesOptions{}) {
		_, limited := limits[name]
		_, requested := r.Requests[name]
		if isHugePage(name) && podresources.IsSupportedPodLevelResource(name) && !limited && !requested {
			if limits == nil {
				limits = corev1.ResourceList{}
			}
			limits[name] = sum
		}
	}
	r.Limits = limits
	if len(r.Limits) == 0 {
		return
	}
	requests := maps.Clone(r.Requests)
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	for name, sum := range podresources.AggregateContainerRequests(p, podresources.PodResourcesOptions{}) {
		if _, ok := requests[name]; !ok && podresources.IsSupportedPodLevelResource(name) && !isHugePage(name) {
			requests[name] = sum
		}
	}
	for name, limit := range r.Limits {
		if _, ok := requests[name]; !ok && podresources.IsSupportedPodLevelResource(name) {
			requests[name] = limit.DeepCopy()
		}
	}
	if len(requests) > 0 {
		r.Requests = requests
	}
}

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func fillMissing(into, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := into[name]; !ok {
			into[name] = q.DeepCopy()
		}
	}
}

// roundUp rounds to thousandths, the finest that the API keeps.
func roundUp(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(resource.Milli)
		list[name] = q
	}
}
