package services

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Create implements the create hook of the services storage.
func (a *Allocator) Create(ctx context.Context, svc *corev1.Service, dryRun bool) (func(context.Context, bool), error) {
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	return a.allocate(ctx, svc, nil, dryRun)
}

// Update implements the update hook of the services storage.
func (a *Allocator) Update(ctx context.Context, svc, old *corev1.Service, dryRun bool) (func(context.Context, bool), error) {
	syncClusterIPs(svc, old)
	inherit(svc, old)
	dropUnneeded(svc, old)
	return a.allocate(ctx, svc, old, dryRun)
}

// Release implements the delete hook of the services storage.
func (a *Allocator) Release(ctx context.Context, svc *corev1.Service) {
	a.giveBack(ctx, ownerOfService(svc), held(svc))
}

// allocate claims what svc needs and says what is to be given back afterwards:
// on failure what was claimed now, on success what only old had.
func (a *Allocator) allocate(ctx context.Context, svc, old *corev1.Service, dryRun bool) (func(context.Context, bool), error) {
	o := ownerOfService(svc)
	var before []string
	if old != nil {
		before = held(old)
	}
	errs, err := a.claimIP(ctx, svc, old, o, dryRun)
	if err == nil && len(errs) == 0 {
		errs, err = a.claimPorts(ctx, svc, old, o, dryRun)
	}
	claimed := slices.DeleteFunc(held(svc), func(name string) bool { return slices.Contains(before, name) })
	if err != nil || len(errs) > 0 {
		if !dryRun {
			a.giveBack(ctx, o, claimed)
		}
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), svc.Name, errs)
	}
	dropped := slices.DeleteFunc(before, func(name string) bool { return slices.Contains(held(svc), name) })
	return func(ctx context.Context, stored bool) {
		switch {
		case dryRun:
		case stored:
			a.giveBack(ctx, o, dropped)
		default:
			a.giveBack(ctx, o, claimed)
		}
	}, nil
}

func (a *Allocator) claimIP(ctx context.Context, svc, old *corev1.Service, o owner, dryRun bool) (field.ErrorList, error) {
	spec := &svc.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil, nil
	}
	if errs := a.setFamilies(svc); len(errs) > 0 {
		return errs, nil
	}
	if spec.ClusterIP == corev1.ClusterIPNone {
		return nil, nil
	}
	if spec.ClusterIP == "" {
		ip, err := a.nextIP(ctx, o, dryRun)
		if err != nil {
			return nil, fmt.Errorf("failed to allocate a serviceIP: %w", err)
		}
		spec.ClusterIP, spec.ClusterIPs = ip, []string{ip}
		return nil, nil
	}
	if old != nil && old.Spec.ClusterIP == spec.ClusterIP {
		return nil, nil
	}
	path := field.NewPath("spec", "clusterIPs")
	ip, err := netip.ParseAddr(spec.ClusterIP)
	if err != nil {
		return nil, nil // validation says it better
	}
	if !a.usable(ip) {
		return field.ErrorList{field.Invalid(path, spec.ClusterIPs, fmt.Sprintf(
			"failed to allocate IP %v: the provided network does not match the current range: the provided IP (%v) is not in the valid range. The range of valid IPs is %s",
			ip, ip, a.addresses))}, nil
	}
	ok, err := a.ips.claim(ctx, spec.ClusterIP, o, dryRun)
	if err != nil || ok {
		return nil, err
	}
	return field.ErrorList{field.Invalid(path, spec.ClusterIPs,
		fmt.Sprintf("failed to allocate IP %v: provided IP is already allocated", ip))}, nil
}

// setFamilies fills in the one family that there is.
func (a *Allocator) setFamilies(svc *corev1.Service) field.ErrorList {
	spec := &svc.Spec
	for i, family := range spec.IPFamilies {
		if family == corev1.IPv6Protocol {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster")}
		}
	}
	if p := spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services")}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if spec.IPFamilyPolicy == nil {
		single := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy = &single
	}
	return nil
}

func (a *Allocator) claimPorts(ctx context.Context, svc, old *corev1.Service, o owner, dryRun bool) (field.ErrorList, error) {
	if !needsNodePorts(svc) {
		return nil, nil
	}
	used := map[int32]bool{} // by this service already
	for _, p := range svc.Spec.Ports {
		used[p.NodePort] = true
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		if port.NodePort != 0 {
			if old != nil && slices.Contains(held(old), strconv.Itoa(int(port.NodePort))) {
				continue
			}
			if errs, err := a.claimPort(ctx, field.NewPath("spec", "ports").Index(i).Child("nodePort"), port.NodePort, o, dryRun); err != nil || len(errs) > 0 {
				return errs, err
			}
			continue
		}
		if twin := sameNumber(svc.Spec.Ports[:i], port); twin != 0 {
			port.NodePort = twin
			continue
		}
		number, err := a.nextPort(ctx, o, i, used, dryRun)
		if err != nil {
			return nil, fmt.Errorf("failed to allocate a nodePort: %w", err)
		}
		port.NodePort, used[number] = number, true
	}
	if needsHealthPort(svc) && svc.Spec.HealthCheckNodePort == 0 {
		number, err := a.nextPort(ctx, o, len(svc.Spec.Ports), used, dryRun)
		if err != nil {
			return nil, fmt.Errorf("failed to allocate a HealthCheck NodePort: %w", err)
		}
		svc.Spec.HealthCheckNodePort = number
	}
	return nil, nil
}

func (a *Allocator) claimPort(ctx context.Context, path *field.Path, port int32, o owner, dryRun bool) (field.ErrorList, error) {
	if port < a.ports.First || port > a.ports.Last {
		return field.ErrorList{field.Invalid(path, port, fmt.Sprintf(
			"provided port is not in the valid range. The range of valid ports is %d-%d", a.ports.First, a.ports.Last))}, nil
	}
	ok, err := a.nodePorts.claim(ctx, strconv.Itoa(int(port)), o, dryRun)
	if err != nil || ok {
		return nil, err
	}
	return field.ErrorList{field.Invalid(path, port, "provided port is already allocated")}, nil
}

// sameNumber finds the node port of the same port number in another protocol:
// one node port serves both, as in Kubernetes.
func sameNumber(done []corev1.ServicePort, port *corev1.ServicePort) int32 {
	for _, p := range done {
		if p.Port == port.Port && p.Protocol != port.Protocol {
			return p.NodePort
		}
	}
	return 0
}

// giveBack releases names. It outlives the request that led here.
func (a *Allocator) giveBack(ctx context.Context, o owner, names []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, name := range names {
		from := a.ips
		if _, err := strconv.Atoi(name); err == nil {
			from = a.nodePorts
		}
		if err := from.release(ctx, name, o); err != nil {
			a.log.Warn("claim not released, a sweep will", "claim", name, "service", o.String(), "err", err)
		}
	}
}

func ownerOfService(svc *corev1.Service) owner {
	return owner{types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, svc.UID}
}
