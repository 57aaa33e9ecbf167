package validation

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var podAnnotations = metaPath.Child("annotations")

func podCreate(f *findings, p *corev1.Pod) {
	f.pod(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		f.forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create")
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		f.forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	f.profilesMatch(specPath, &p.ObjectMeta, &p.Spec)
}

// pod judges what holds on create and on update.
func (f *findings) pod(p *corev1.Pod) {
	f.meta(&p.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.podAnnotations(podAnnotations, p.Annotations, &p.Spec)
	f.podSpec(specPath, &p.Spec, p.Name)
	if p.Spec.ServiceAccountName == "" {
		f.noTokens(specPath.Child("volumes"), p.Spec.Volumes)
	}
	for i := range p.Spec.Containers {
		f.trimmedImage(specPath.Child("containers").Index(i), &p.Spec.Containers[i], true)
	}
	for i := range p.Spec.InitContainers {
		f.trimmedImage(specPath.Child("initContainers").Index(i), &p.Spec.InitContainers[i], true)
	}
}

func (f *findings) noTokens(at *field.Path, volumes []corev1.Volume) {
	for i, v := range volumes {
		if v.Projected == nil {
			continue
		}
		for j, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				f.forbidden(at.Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set")
			}
		}
	}
}

// podTemplate judges the template of a workload.
func (f *findings) podTemplate(at *field.Path, t *corev1.PodTemplateSpec) {
	f.labels(at.Child("labels"), t.Labels)
	f.add(apivalidation.ValidateAnnotations(t.Annotations, at.Child("annotations"))...)
	f.podAnnotations(at.Child("annotations"), t.Annotations, &t.Spec)
	f.podSpec(at.Child("spec"), &t.Spec, "")
	f.profilesMatch(at.Child("spec"), &t.ObjectMeta, &t.Spec)
	if len(t.Spec.EphemeralContainers) > 0 {
		f.forbidden(at.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
}

// podAnnotations judges the annotations that mean something to Kubernetes.
func (f *findings) podAnnotations(at *field.Path, a map[string]string, s *corev1.PodSpec) {
	if value, ok := a[corev1.MirrorPodAnnotationKey]; ok && s.NodeName == "" {
		f.invalid(at.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set")
	}
	if value, ok := a[corev1.PodDeletionCost]; ok && !isDeletionCost(value) {
		f.invalid(at.Key(corev1.PodDeletionCost), value, "must be a 32bit integer")
	}
	if profile, ok := a[corev1.SeccompPodAnnotationKey]; ok {
		f.seccompName(at.Child(corev1.SeccompPodAnnotationKey), profile)
	}
	if len(a) == 0 {
		return // as of most pods
	}
	containers := seen[string]{}
	visit(nil, s, func(_ *field.Path, c *corev1.Container) { containers[c.Name] = true })
	for key, profile := range a {
		if strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			f.seccompName(at.Child(key), profile)
		}
		name, ok := strings.CutPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
		if !ok {
			continue
		}
		if !containers[name] {
			f.invalid(at.Key(key), name, "container not found")
		}
		switch {
		case profile == "", profile == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, profile == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		case !strings.HasPrefix(profile, corev1.DeprecatedAppArmorBetaProfileNamePrefix):
			f.invalid(at.Key(key), profile, "invalid AppArmor profile name: "+strconv.Quote(profile))
		}
	}
}

// isDeletionCost wants the one way of writing a number: no plus, no leading
// zeros.
func isDeletionCost(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && strconv.FormatInt(n, 10) == s
}

func (f *findings) seccompName(at *field.Path, profile string) {
	switch profile {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return
	}
	if file, ok := strings.CutPrefix(profile, corev1.SeccompLocalhostProfileNamePrefix); ok {
		f.relativePath(at, file)
		return
	}
	f.invalid(at, profile, "must be a valid seccomp profile")
}

// profilesMatch: seccomp and AppArmor profiles were annotations once. Where both
// the annotation and the field are given they must agree.
func (f *findings) profilesMatch(at *field.Path, m *metav1.ObjectMeta, s *corev1.PodSpec) {
	if len(m.Annotations) == 0 {
		return
	}
	if s.SecurityContext != nil && s.SecurityContext.SeccompProfile != nil {
		if a, ok := m.Annotations[corev1.SeccompPodAnnotationKey]; ok {
			f.seccompMatches(at.Child("securityContext", "seccompProfile"), a, s.SecurityContext.SeccompProfile)
		}
	}
	visit(at, s, func(at *field.Path, c *corev1.Container) {
		var armor *corev1.AppArmorProfile
		if s.SecurityContext != nil {
			armor = s.SecurityContext.AppArmorProfile
		}
		if c.SecurityContext != nil {
			a, ok := m.Annotations[corev1.SeccompContainerAnnotationKeyPrefix+c.Name]
			if p := c.SecurityContext.SeccompProfile; ok && p != nil {
				f.seccompMatches(at.Child("securityContext", "seccompProfile"), a, p)
			}
			if c.SecurityContext.AppArmorProfile != nil {
				armor = c.SecurityContext.AppArmorProfile
			}
		}
		a, ok := m.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
		if ok && armor != nil && (s.OS == nil || s.OS.Name != corev1.Windows) {
			f.appArmorMatches(at.Child("securityContext", "appArmorProfile"), a, armor)
		}
	})
}

func (f *findings) seccompMatches(at *field.Path, annotation string, p *corev1.SeccompProfile) {
	file, local := strings.CutPrefix(annotation, corev1.SeccompLocalhostProfileNamePrefix)
	same := true
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		same = annotation == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		same = annotation == corev1.SeccompProfileRuntimeDefault || annotation == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		same = local
		if local && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
			f.forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")
		}
	}
	if !same {
		f.forbidden(at.Child("type"), "seccomp type in annotation and field must match")
	}
}

func (f *findings) appArmorMatches(at *field.Path, annotation string, p *corev1.AppArmorProfile) {
	file, local := strings.CutPrefix(annotation, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	same := true
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		same = annotation == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		same = annotation == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		same = local
		if local && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
			f.forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")
		}
	}
	if !same {
		f.forbidden(at.Child("type"), "apparmor type in annotation and field must match")
	}
}
