package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

var (
	clusterIPsPath     = specPath.Child("clusterIPs")
	ipFamiliesPath     = specPath.Child("ipFamilies")
	ipFamilyPolicyPath = specPath.Child("ipFamilyPolicy")
)

// clusterIPs judges the addresses of a service, their families and the policy
// that they came by. clusterIP repeats the first of clusterIPs.
func (f *findings) clusterIPs(s *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	ips := s.Spec.ClusterIPs
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		f.invalid(clusterIPsPath, ips, "must be empty when `clusterIP` is not specified")
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		f.required(clusterIPsPath, "")
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		f.invalid(clusterIPsPath, ips, "first value must match `clusterIP`")
	}
	families := seen[corev1.IPFamily]{}
	for i, family := range s.Spec.IPFamilies {
		unless(f, ipFamiliesPath.Index(i), family, corev1.IPv4Protocol, corev1.IPv6Protocol)
		if families.again(family) {
			f.duplicate(ipFamiliesPath.Index(i), family)
		}
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		unless(f, ipFamilyPolicyPath, *p, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)
	}
	if !f.clusterIPList(ips) || isHeadless(s) {
		return
	}
	for i, family := range s.Spec.IPFamilies[:min(len(ips), len(s.Spec.IPFamilies))] {
		is6 := netutils.IsIPv6String(ips[i])
		if family == corev1.IPv4Protocol && is6 || family == corev1.IPv6Protocol && !is6 {
			f.invalid(clusterIPsPath.Index(i), ips[i], fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", family, i))
		}
	}
}

// clusterIPList reports whether every entry is an address, or the only one is
// None.
func (f *findings) clusterIPList(ips []string) bool {
	ok := true
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				ok = false
				f.invalid(clusterIPsPath, ips, "'None' must be the first and only value")
			}
			continue
		}
		errs := validation.IsValidIPForLegacyField(clusterIPsPath.Index(i), ip, true, nil)
		ok = ok && len(errs) == 0
		f.add(errs...)
	}
	if len(ips) > 2 {
		f.invalid(clusterIPsPath, ips, "may only hold up to 2 values")
	}
	if ok && len(ips) > 1 {
		if dual, err := netutils.IsDualStackIPStrings(ips); err != nil || !dual {
			f.invalid(clusterIPsPath, ips, "may specify no more than one IP for each IP family")
		}
	}
	return ok
}

func serviceUpdate(f *findings, s, old *corev1.Service) {
	f.metaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	f.sameClusterIPs(s, old)
	f.sameFamilies(s, old)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		is, was := s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass
		if (is == nil) != (was == nil) || is != nil && *is != *was {
			f.invalid(specPath.Child("loadBalancerClass"), is, onceSet)
		}
	}
	if needsHealthCheck(s) && needsHealthCheck(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		f.forbidden(specPath.Child("healthCheckNodePort"), "field is immutable")
	}
	service(f, s)
}

func involvesExternalName(s, old *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName
}

// sameClusterIPs: a second address may come or go, the first stays.
func (f *findings) sameClusterIPs(s, old *corev1.Service) {
	if involvesExternalName(s, old) || isHeadless(s) && isHeadless(old) {
		return
	}
	is, was := s.Spec.ClusterIPs, old.Spec.ClusterIPs
	if len(is) == len(was) {
		for i := range is {
			if is[i] != was[i] {
				f.invalid(clusterIPsPath.Index(i), is, onceSet)
			}
		}
		return
	}
	if len(is) == 0 {
		f.invalid(clusterIPsPath.Index(0), is, "primary clusterIP can not be unset")
	} else if len(was) > 0 && is[0] != was[0] {
		f.invalid(clusterIPsPath.Index(0), is, onceSet)
	}
	if len(was) > len(is) && len(is) == 1 {
		f.released(s, "clusterIP")
	}
}

// released: who gives up the second stack says so.
func (f *findings) released(s *corev1.Service, what string) {
	if p := s.Spec.IPFamilyPolicy; p == nil || *p != corev1.IPFamilyPolicySingleStack {
		f.invalid(ipFamilyPolicyPath, p, "must be set to 'SingleStack' when releasing the secondary "+what)
	}
}

func (f *findings) sameFamilies(s, old *corev1.Service) {
	if involvesExternalName(s, old) || isHeadless(s) || isHeadless(old) {
		return
	}
	is, was := s.Spec.IPFamilies, old.Spec.IPFamilies
	if len(is) == len(was) {
		for i := range is {
			if is[i] != was[i] {
				f.invalid(ipFamiliesPath.Index(0), is, onceSet)
			}
		}
		return
	}
	if len(was) > len(is) && len(is) == 0 {
		f.invalid(ipFamiliesPath.Index(0), is, "primary ipFamily can not be unset")
	}
	if len(is) > 0 && len(was) > 0 && is[0] != was[0] {
		f.invalid(ipFamiliesPath.Index(0), s.Spec.ClusterIPs, onceSet)
	}
	if len(was) > len(is) && len(is) == 1 {
		f.released(s, "ipFamily")
	}
}

func serviceWarnings(w *warnings, s, _ *corev1.Service) {
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		w.add(fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
		warnIPs(w, clusterIPsPath, s.Spec.ClusterIPs)
	}
	headless := s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == corev1.ClusterIPNone
	if headless {
		if s.Spec.LoadBalancerIP != "" {
			w.add("spec.loadBalancerIP is ignored for headless services")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			w.add("spec.externalIPs is ignored for headless services")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			w.add("spec.SessionAffinity is ignored for headless services")
		}
	}
	external := s.Spec.Type == corev1.ServiceTypeExternalName
	warnIPs(w, specPath.Child("externalIPs"), s.Spec.ExternalIPs)
	if len(s.Spec.ExternalIPs) > 0 && !headless && !external {
		w.add("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	for i, cidr := range s.Spec.LoadBalancerSourceRanges {
		w.add(validation.GetWarningsForCIDR(specPath.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	if external && len(s.Spec.ExternalIPs) > 0 {
		w.add(fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	if !external && s.Spec.ExternalName != "" {
		w.add(fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	}
	if d := s.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferClose {
		w.add(fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q", corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	}
}

func warnIPs(w *warnings, at *field.Path, ips []string) {
	for i, ip := range ips {
		w.add(validation.GetWarningsForIP(at.Index(i), ip)...)
	}
}
