package validation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podresources "k8s.io/component-helpers/resource"
)

// containerResources are the names without a domain that a container may ask for.
var containerResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// countedResources are measured in whole objects, and exist for quotas.
var countedResources = []corev1.ResourceName{
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
	corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// quotaResources are the other names without a domain.
var quotaResources = []corev1.ResourceName{
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
	corev1.ResourceStorage, corev1.ResourceRequestsStorage,
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(list))
}

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// isNative says that the name is ours to define: it has no domain, or that of
// Kubernetes.
func isNative(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// isExtended says that the name is of somebody's own resource, and would still
// be a name with the prefix that quotas use.
func isExtended(name corev1.ResourceName) bool {
	return !isNative(name) && !strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// canOvercommit says that a limit may be higher than the request.
func canOvercommit(name corev1.ResourceName) bool { return isNative(name) && !isHugePage(name) }

// quantity judges how much of a resource there is.
func (f *findings) quantity(at *field.Path, name corev1.ResourceName, q resource.Quantity) {
	f.nonNegativeQuantity(at, q)
	if (slices.Contains(countedResources, name) || isExtended(name)) && q.MilliValue()%1000 != 0 {
		f.invalid(at, q, "must be an integer")
	}
}

// resourceName judges a name of any resource, and says if it was fine.
func (f *findings) resourceName(at *field.Path, name corev1.ResourceName) bool {
	if reasons := validation.IsQualifiedName(string(name)); len(reasons) > 0 {
		f.each(at, name, reasons)
		return false
	}
	standard := slices.Contains(containerResources, name) || slices.Contains(countedResources, name) ||
		slices.Contains(quotaResources, name) || isHugePage(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
	if !strings.Contains(string(name), "/") && !standard {
		f.invalid(at, name, "must be a standard resource type or fully qualified")
		return false
	}
	return true
}

func (f *findings) containerResourceName(at *field.Path, name corev1.ResourceName) {
	f.resourceName(at, name)
	switch {
	case !strings.Contains(string(name), "/"):
		if !slices.Contains(containerResources, name) && !isHugePage(name) {
			f.invalid(at, name, "must be a standard resource for containers")
		}
	case !isNative(name) && !isExtended(name):
		f.invalid(at, name, "doesn't follow extended resource name standard")
	}
}

func (f *findings) podResourceName(at *field.Path, name corev1.ResourceName) {
	if f.resourceName(at, name) && !podresources.IsSupportedPodLevelResource(name) {
		names := podresources.SupportedPodLevelResources().UnsortedList()
		slices.Sort(names)
		f.add(field.NotSupported(at, name, names))
	}
}

// resources judges what a container asks for.
func (f *findings) resources(at *field.Path, r *corev1.ResourceRequirements, claims *claimNames) {
	f.requirements(at, r, f.containerResourceName)
	f.usedClaims(at.Child("claims"), r.Claims, claims)
}

func (f *findings) requirements(at *field.Path, r *corev1.ResourceRequirements, name func(*field.Path, corev1.ResourceName)) {
	limits, requests := at.Child("limits"), at.Child("requests")
	for _, n := range sortedNames(r.Limits) {
		name(limits.Key(string(n)), n)
		f.quantity(limits.Key(string(n)), n, r.Limits[n])
		f.hugePages(limits.Key(string(n)), n, r.Limits[n])
	}
	for _, n := range sortedNames(r.Requests) {
		name(requests.Key(string(n)), n)
		f.quantity(requests.Key(string(n)), n, r.Requests[n])
		f.withinLimit(limits, requests, n, r)
		f.hugePages(requests.Key(string(n)), n, r.Requests[n])
	}
	if asks(r, isHugePage) && !asks(r, isComputing) {
		f.forbidden(at, "HugePages require cpu or memory")
	}
}

func isComputing(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory
}

func asks(r *corev1.ResourceRequirements, kind func(corev1.ResourceName) bool) bool {
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name := range list {
			if kind(name) {
				return true
			}
		}
	}
	return false
}

func (f *findings) withinLimit(limits, requests *field.Path, name corev1.ResourceName, r *corev1.ResourceRequirements) {
	request := r.Requests[name]
	limit, limited := r.Limits[name]
	switch {
	case limited && !canOvercommit(name) && request.Cmp(limit) != 0:
		f.invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String()))
	case limited && request.Cmp(limit) > 0:
		f.invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String()))
	case !limited && !canOvercommit(name):
		f.required(limits, "Limit must be set for non overcommitable resources")
	}
}

// hugePages come in whole pages of the size that the name says.
func (f *findings) hugePages(at *field.Path, name corev1.ResourceName, q resource.Quantity) {
	if !isHugePage(name) {
		return
	}
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil || size.Sign() <= 0 || size.MilliValue()%1000 != 0 || q.Value()%max(size.Value(), 1) != 0 {
		f.invalid(at, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name))
	}
}

// podResources judges spec.resources, and the containers' share of it.
func (f *findings) podResources(at *field.Path, s *corev1.PodSpec) {
	r := s.Resources
	if r == nil {
		return
	}
	if r.Claims != nil {
		f.forbidden(at.Child("claims"), "claims cannot be set for Resources at pod-level")
	}
	f.requirements(at, r, f.podResourceName)
	sum := podresources.AggregateContainerRequests(&corev1.Pod{Spec: *s}, podresources.PodResourcesOptions{})
	for _, name := range sortedNames(sum) {
		asked, limit := sum[name], r.Requests[name]
		if asked.Cmp(limit) > 0 {
			f.invalid(at.Child("requests").Key(string(name)), limit.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", asked.String()))
		}
	}
	for i, c := range s.Containers {
		for _, name := range sortedNames(c.Resources.Limits) {
			own := c.Resources.Limits[name]
			if limit, ok := r.Limits[name]; ok && own.Cmp(limit) > 0 {
				f.invalid(at.Child("containers").Index(i).Key(string(name)).Child("limits"), own.String(), fmt.Sprintf("must be less than or equal to pod limits of %s", limit.String()))
			}
		}
	}
}

func (f *findings) resizePolicy(at *field.Path, policies []corev1.ContainerResizePolicy, restart corev1.RestartPolicy) {
	names := seen[corev1.ResourceName]{}
	for i, p := range policies {
		if names.again(p.ResourceName) {
			f.duplicate(at.Index(i), p.ResourceName)
		}
		oneOf(f, at, p.ResourceName, corev1.ResourceCPU, corev1.ResourceMemory)
		oneOf(f, at, p.RestartPolicy, corev1.NotRequired, corev1.RestartContainer)
		if restart == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			f.invalid(at, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'")
		}
	}
}
