package validation

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podStatus judges what a node reports of its pod.
func podStatus(f *findings, p, old *corev1.Pod) {
	f.metaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	f.podAnnotations(podAnnotations, p.Annotations, &p.Spec)
	f.podAnnotationUpdate(p, old)
	for i, c := range p.Status.Conditions {
		f.qualifiedName(metaPath.Child("conditions").Index(i).Child("Type"), string(c.Type))
	}
	f.nonNegative(statusPath.Child("observedGeneration"), p.Status.ObservedGeneration)
	if p.Spec.NodeName != old.Spec.NodeName {
		f.forbidden(statusPath.Child("nodeName"), "may not be changed directly")
	}
	if name := p.Status.NominatedNodeName; name != "" && name != old.Status.NominatedNodeName {
		f.each(statusPath.Child("nominatedNodeName"), name, apivalidation.NameIsDNSSubdomain(name, false))
	}
	f.immutable(statusPath.Child("qosClass"), p.Status.QOSClass, old.Status.QOSClass)

	spec := &old.Spec
	f.staysTerminated(statusPath.Child("containerStatuses"), p.Status.ContainerStatuses, old.Status.ContainerStatuses, restartable(spec, spec.Containers))
	f.staysTerminated(statusPath.Child("initContainerStatuses"), p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, restartable(spec, spec.InitContainers))
	never := func(corev1.ContainerStatus) bool { return false }
	f.staysTerminated(statusPath.Child("ephemeralContainerStatuses"), p.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, never)

	f.claimStatuses(statusPath.Child("resourceClaimStatuses"), p)
	f.podIPs(statusPath, &p.Status)
	f.containerUsers(statusPath.Child("containerStatuses"), p.Status.ContainerStatuses, spec.OS)
	f.containerUsers(statusPath.Child("initContainerStatuses"), p.Status.InitContainerStatuses, spec.OS)
	f.containerUsers(statusPath.Child("ephemeralContainerStatuses"), p.Status.EphemeralContainerStatuses, spec.OS)
	f.deviceHealth(statusPath.Child("containerStatuses"), p.Status.ContainerStatuses, p.Spec.Containers)
	f.deviceHealth(statusPath.Child("initContainerStatuses"), p.Status.InitContainerStatuses, p.Spec.InitContainers)
	for i, c := range p.Status.EphemeralContainerStatuses {
		if len(c.AllocatedResourcesStatus) > 0 {
			f.forbidden(statusPath.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status")
		}
	}
}

// restartable says of a container that has ended whether it may start again: by
// a policy of its own, or by its pod's.
func restartable(s *corev1.PodSpec, containers []corev1.Container) func(corev1.ContainerStatus) bool {
	byName := map[string]*corev1.Container{}
	for i := range containers {
		byName[containers[i].Name] = &containers[i]
	}
	return func(ended corev1.ContainerStatus) bool {
		policy := s.RestartPolicy
		if c := byName[ended.Name]; c != nil {
			if len(c.RestartPolicyRules) > 0 {
				return true
			}
			if c.RestartPolicy != nil {
				policy = corev1.RestartPolicy(*c.RestartPolicy)
			}
		}
		return policy == corev1.RestartPolicyAlways ||
			policy == corev1.RestartPolicyOnFailure && ended.State.Terminated.ExitCode != 0
	}
}

func (f *findings) staysTerminated(at *field.Path, list, old []corev1.ContainerStatus, restartable func(corev1.ContainerStatus) bool) {
	alive := seen[string]{}
	for _, c := range list {
		if c.State.Terminated == nil {
			alive[c.Name] = true
		}
	}
	for i, c := range old {
		if c.State.Terminated != nil && alive[c.Name] && !restartable(c) {
			f.forbidden(at.Index(i).Child("state"), "may not be transitioned to non-terminated state")
		}
	}
}

func (f *findings) claimStatuses(at *field.Path, p *corev1.Pod) {
	claims := namesOfClaims(p.Spec.ResourceClaims)
	names := seen[string]{}
	for i, s := range p.Status.ResourceClaimStatuses {
		at := at.Index(i).Child("name")
		if !claims.known[s.Name] {
			f.invalid(at, s.Name, "must match the name of an entry in `spec.resourceClaims`")
		}
		if names.again(s.Name) {
			f.duplicate(at, s.Name)
		}
		f.optionalName(at, s.ResourceClaimName)
	}
}

// podIPs judges the addresses of the pod and of its host.
func (f *findings) podIPs(at *field.Path, s *corev1.PodStatus) {
	var ips []string
	known := seen[string]{}
	for i, ip := range s.PodIPs {
		f.ip(at.Child("podIPs").Index(i), ip.IP)
		if known.again(ip.IP) {
			f.duplicate(at.Child("podIPs").Index(i), ip)
		}
		ips = append(ips, ip.IP)
	}
	f.atMostOneOfEachFamily(at.Child("podIPs"), ips, s.PodIPs)

	if len(s.HostIPs) == 0 {
		return
	}
	if s.HostIP != s.HostIPs[0].IP {
		f.invalid(at.Child("hostIPs").Index(0).Child("ip"), s.HostIPs[0].IP, "must be equal to `hostIP`")
	}
	ips, known = nil, seen[string]{}
	for i, ip := range s.HostIPs {
		f.ip(at.Child("hostIPs").Index(i), ip.IP)
		if known.again(ip.IP) {
			f.duplicate(at.Child("hostIPs").Index(i), ip)
		}
		ips = append(ips, ip.IP)
	}
	f.atMostOneOfEachFamily(at.Child("hostIPs"), ips, s.HostIPs)
}

func (f *findings) containerUsers(at *field.Path, list []corev1.ContainerStatus, os *corev1.PodOS) {
	for i, c := range list {
		if c.User == nil || c.User.Linux == nil {
			continue
		}
		at, user := at.Index(i).Child("linux"), c.User.Linux
		if os != nil && os.Name == corev1.Windows {
			f.forbidden(at, "cannot be set for a windows pod")
			continue
		}
		f.userID(at.Child("uid"), &user.UID)
		f.groupID(at.Child("gid"), &user.GID)
		for j, id := range user.SupplementalGroups {
			f.groupID(at.Child("supplementalGroups").Index(j), &id)
		}
	}
}

// deviceHealth judges reports on devices: of the container's own, each once.
func (f *findings) deviceHealth(at *field.Path, list []corev1.ContainerStatus, containers []corev1.Container) {
	byName := map[string]*corev1.Container{}
	for i := range containers {
		byName[containers[i].Name] = &containers[i]
	}
	for i, c := range list {
		for j, r := range c.AllocatedResourcesStatus {
			at := at.Index(i).Child("allocatedResourcesStatus").Index(j)
			if of := byName[c.Name]; of != nil {
				f.ownDevice(at.Child("name"), r.Name, of)
			}
			ids := seen[corev1.ResourceID]{}
			for k, h := range r.Resources {
				at := at.Child("resources").Index(k)
				unless(f, at.Child("health"), h.Health, corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
				if ids.again(h.ResourceID) {
					f.duplicate(at.Child("resourceID"), h.ResourceID)
				}
			}
		}
	}
}

func (f *findings) ownDevice(at *field.Path, name corev1.ResourceName, of *corev1.Container) {
	claim, isClaim := strings.CutPrefix(string(name), "claim:")
	if !isClaim {
		if _, ok := of.Resources.Requests[name]; !ok {
			f.invalid(at, name, "must match one of the container's resource requests")
		}
		return
	}
	for _, c := range of.Resources.Claims {
		if claim == c.Name && c.Request == "" || claim == c.Name+"/"+c.Request {
			return
		}
	}
	f.invalid(at, name, "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty")
}
