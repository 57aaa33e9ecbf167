package defaults

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

func namespace(n *corev1.Namespace) {
	if n.Name != "" { // a generated name is not known yet
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[corev1.LabelMetadataName] = n.Name
	}
	set(&n.Status.Phase, corev1.NamespaceActive)
	// Only a namespace that was never stored: an empty list on a stored one means
	// that its finalizers have run, and filling it would keep it for ever.
	if len(n.Spec.Finalizers) == 0 && n.UID == "" && n.ResourceVersion == "" && n.DeletionTimestamp == nil {
		n.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
	}
}

func node(n *corev1.Node) {
	// The single value wins, as for podIP.
	if c := n.Spec.PodCIDR; c != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != c) {
		n.Spec.PodCIDRs = []string{c}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	roundUp(n.Status.Capacity)
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	roundUp(n.Status.Allocatable)
}

func secret(s *corev1.Secret) {
	set(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = slices.Clip([]byte(value))
	}
	s.StringData = nil // write-only: it never comes back
}

func priorityClass(p *schedulingv1.PriorityClass) {
	point(&p.PreemptionPolicy, corev1.PreemptLowerPriority)
}
