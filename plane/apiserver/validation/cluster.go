package validation

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func namespace(f *findings, n *corev1.Namespace) {
	f.meta(&n.ObjectMeta, cluster, apivalidation.ValidateNamespaceName)
	for _, name := range n.Spec.Finalizers {
		f.namespaceFinalizer(specPath.Child("finalizers"), string(name))
	}
}

func (f *findings) namespaceFinalizer(at *field.Path, name string) {
	f.add(apivalidation.ValidateFinalizerName(name, at)...)
	f.finalizer(at, name)
}

// namespaceUpdate serves the finalize subresource as well.
func namespaceUpdate(f *findings, n, old *corev1.Namespace) {
	f.metaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	for i, name := range n.Spec.Finalizers {
		f.namespaceFinalizer(specPath.Child("finalizers").Index(i), string(name))
	}
}

func namespaceStatus(f *findings, n, old *corev1.Namespace) {
	f.metaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	at := statusPath.Child("Phase")
	if n.DeletionTimestamp.IsZero() {
		if n.Status.Phase != corev1.NamespaceActive {
			f.invalid(at, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")
		}
	} else if n.Status.Phase != corev1.NamespaceTerminating {
		f.invalid(at, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
	}
}

func node(f *findings, n *corev1.Node) {
	f.meta(&n.ObjectMeta, cluster, apivalidation.NameIsDNSSubdomain)
	f.taints(n.Spec.Taints)
	f.nodeResources(n)
	f.podCIDRs(n.Spec.PodCIDRs)
}

// taints are reported under metadata, where Kubernetes had them first.
func (f *findings) taints(taints []corev1.Taint) {
	type pair struct {
		key    string
		effect corev1.TaintEffect
	}
	pairs := seen[pair]{}
	for i, t := range taints {
		at := metaPath.Child("taints").Index(i)
		f.labelKey(at.Child("key"), t.Key)
		if reasons := validation.IsValidLabelValue(t.Value); len(reasons) > 0 {
			f.invalid(at.Child("value"), t.Value, strings.Join(reasons, ";"))
		}
		oneOf(f, at.Child("effect"), t.Effect, taintEffects...)
		if pairs.again(pair{t.Key, t.Effect}) {
			err := field.Duplicate(at, t)
			err.Detail = "taints must be unique by key and effect pair"
			f.add(err)
		}
	}
}

func (f *findings) nodeResources(n *corev1.Node) {
	for _, name := range sortedNames(n.Status.Capacity) {
		f.quantity(statusPath.Child("capacity", string(name)), name, n.Status.Capacity[name])
	}
	for _, name := range sortedNames(n.Status.Allocatable) {
		f.quantity(statusPath.Child("allocatable", string(name)), name, n.Status.Allocatable[name])
	}
}

func (f *findings) podCIDRs(cidrs []string) {
	at := specPath.Child("podCIDRs")
	for i, cidr := range cidrs {
		f.cidr(at.Index(i), cidr)
	}
	if len(cidrs) < 2 {
		return
	}
	dual, err := netutils.IsDualStackCIDRStrings(cidrs)
	if err != nil {
		f.add(field.InternalError(at, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !dual || len(cidrs) > 2 {
		f.invalid(at, cidrs, "may specify no more than one CIDR for each IP family")
	}
	known := seen[string]{}
	for i, cidr := range cidrs {
		if known.again(cidr) {
			f.duplicate(at.Index(i), cidr)
		}
	}
}

// nodeUpdate serves the status as well: a node is written by one agent.
func nodeUpdate(f *findings, n, old *corev1.Node) {
	f.metaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	f.nodeResources(n)
	addresses := seen[corev1.NodeAddress]{}
	for i, a := range n.Status.Addresses {
		if addresses.again(a) {
			f.duplicate(statusPath.Child("addresses").Index(i), a)
		}
	}
	if len(old.Spec.PodCIDRs) == 0 {
		f.podCIDRs(n.Spec.PodCIDRs)
	} else if !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		f.forbidden(specPath.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`)
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		f.forbidden(specPath.Child("providerID"), `node updates may not change providerID except from "" to valid`)
	}
	f.taints(n.Spec.Taints)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		f.forbidden(specPath.Child("externalID"), "may not be updated")
	}
}

func nodeWarnings(w *warnings, n, _ *corev1.Node) {
	if n.Spec.DoNotUseExternalID != "" {
		w.at(specPath.Child("externalID"), "this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		w.add(validation.GetWarningsForCIDR(specPath.Child("podCIDRs").Index(i), cidr)...)
	}
}
