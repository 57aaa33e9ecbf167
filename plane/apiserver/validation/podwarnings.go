package validation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const nullSelector = "a null labelSelector results in matching no pod"

func podWarnings(w *warnings, p, old *corev1.Pod) {
	if reasons := validation.IsDNS1123Label(p.Name); old == nil && len(reasons) > 0 {
		w.at(metaPath.Child("name"), "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", reasons)
	}
	if old == nil || p.Generation != old.Generation {
		specWarnings(w, nil, &p.ObjectMeta, &p.Spec)
	}
}

func templateWarnings(w *warnings, at *field.Path, t *corev1.PodTemplateSpec) {
	specWarnings(w, at, &t.ObjectMeta, &t.Spec)
}

func specWarnings(w *warnings, root *field.Path, m *metav1.ObjectMeta, s *corev1.PodSpec) {
	at := root.Child("spec")
	placementWarnings(w, at, s)
	annotationWarnings(w, root, m, s)
	volumeWarnings(w, at.Child("volumes"), s.Volumes)
	duplicateWarnings(w, at, s)
	fractions(w, at.Child("overhead"), s.Overhead)
	visit(at, s, func(at *field.Path, c *corev1.Container) {
		fractions(w, at.Child("resources", "limits"), c.Resources.Limits)
		fractions(w, at.Child("resources", "requests"), c.Resources.Requests)
		hiddenVariables(w, at.Child("env"), c.Env)
	})
	portWarnings(w, at, s)
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		w.at(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	affinityWarnings(w, at.Child("affinity"), s.Affinity)
}

// oldNodeLabels are labels of nodes that went, and what to use instead.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
}

func placementWarnings(w *warnings, at *field.Path, s *corev1.PodSpec) {
	for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		if why, ok := oldNodeLabels[key]; ok {
			w.at(at.Child("nodeSelector").Key(key), "%s", why)
		}
	}
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil {
		at, a := at.Child("affinity", "nodeAffinity"), s.Affinity.NodeAffinity
		if r := a.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i := range r.NodeSelectorTerms {
				termWarnings(w, at.Child(requiredTerms, "nodeSelectorTerms").Index(i), &r.NodeSelectorTerms[i])
			}
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			termWarnings(w, at.Child(preferredTerms).Index(i).Child("preference"), &a.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference)
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		at := at.Child("topologySpreadConstraints").Index(i)
		if why, ok := oldNodeLabels[c.TopologyKey]; ok {
			w.at(at.Child("topologyKey"), "%s is %s", c.TopologyKey, why)
		}
		if c.LabelSelector == nil {
			w.at(at.Child("labelSelector"), nullSelector)
		}
	}
}

func termWarnings(w *warnings, at *field.Path, t *corev1.NodeSelectorTerm) {
	for i, e := range t.MatchExpressions {
		if why, ok := oldNodeLabels[e.Key]; ok {
			w.at(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", e.Key, why)
		}
	}
}

func affinityWarnings(w *warnings, at *field.Path, a *corev1.Affinity) {
	if a == nil {
		return
	}
	terms := func(at *field.Path, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i, t := range required {
			if t.LabelSelector == nil {
				w.at(at.Child(requiredTerms).Index(i).Child("labelSelector"), nullSelector)
			}
		}
		for i, t := range preferred {
			if t.PodAffinityTerm.LabelSelector == nil {
				w.at(at.Child(preferredTerms).Index(i).Child("podAffinityTerm", "labelSelector"), nullSelector)
			}
		}
	}
	if p := a.PodAffinity; p != nil {
		terms(at.Child("podAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms(at.Child("podAntiAffinity"), p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

// annotationWarnings names annotations that fields have replaced.
func annotationWarnings(w *warnings, root *field.Path, m *metav1.ObjectMeta, s *corev1.PodSpec) {
	at := root.Child("metadata", "annotations")
	warn := func(key, why string) {
		if _, ok := m.Annotations[key]; ok {
			w.at(at.Key(key), "%s", why)
		}
	}
	const seccomp = `non-functional in v1.27+; use the "seccompProfile" field instead`
	warn("scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`)
	warn("security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	warn("security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	armored := s.SecurityContext != nil && s.SecurityContext.AppArmorProfile != nil
	if s.SecurityContext == nil || s.SecurityContext.SeccompProfile == nil {
		warn(corev1.SeccompPodAnnotationKey, seccomp)
	}
	visit(nil, s, func(_ *field.Path, c *corev1.Container) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			warn(corev1.SeccompContainerAnnotationKeyPrefix+c.Name, seccomp)
		}
		if root != nil && !armored && (c.SecurityContext == nil || c.SecurityContext.AppArmorProfile == nil) {
			warn(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name, `deprecated since v1.30; use the "appArmorProfile" field instead`)
		}
	})
}

func volumeWarnings(w *warnings, at *field.Path, volumes []corev1.Volume) {
	for i, v := range volumes {
		for _, old := range []struct {
			is        bool
			name, why string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.is {
				w.at(at.Index(i).Child(old.name), "%s", old.why)
			}
		}
	}
}

// duplicateWarnings names list entries that server-side apply would merge.
func duplicateWarnings(w *warnings, at *field.Path, s *corev1.PodSpec) {
	ips := seen[string]{}
	for i, a := range s.HostAliases {
		if ips.again(a.IP) {
			w.at(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
	}
	names := seen[string]{}
	for i, secret := range s.ImagePullSecrets {
		at := at.Child("imagePullSecrets").Index(i).Child("name")
		if names.again(secret.Name) {
			w.at(at, "duplicate name %q", secret.Name)
		}
		if secret.Name == "" {
			w.at(at, "invalid empty name %q", secret.Name)
		}
	}
}

func fractions(w *warnings, at *field.Path, list corev1.ResourceList) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok && isFraction(q) {
			w.at(at.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func isFraction(q resource.Quantity) bool { return q.MilliValue()%1000 != 0 }

// hiddenVariables are those that a later one of the same name takes the place
// of without using.
func hiddenVariables(w *warnings, at *field.Path, vars []corev1.EnvVar) {
	names := seen[string]{}
	for i, v := range vars {
		ref := "$(" + v.Name + ")"
		if names.again(v.Name) && (v.ValueFrom != nil || v.Value == ref || !strings.Contains(v.Value, ref)) {
			w.at(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
		}
	}
}

func portWarnings(w *warnings, at *field.Path, s *corev1.PodSpec) {
	type block struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	all := map[string][]block{}
	visit(at, s, func(at *field.Path, c *corev1.Container) {
		for i, p := range c.Ports {
			if w.full() {
				return
			}
			b := block{at.Child("ports").Index(i), p}
			if p.HostIP != "" && p.HostPort == 0 {
				w.at(b.at, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, other := range all[key] {
				o := other.port
				switch {
				case p.HostIP == o.HostIP && p.HostPort == o.HostPort:
					w.at(b.at, "duplicate port definition with %s", other.at)
				case p.HostPort == 0 || o.HostPort == 0:
					w.at(b.at, "overlapping port definition with %s", other.at)
				case p.HostPort == o.HostPort && (p.HostIP == "") != (o.HostIP == ""):
					w.at(b.at, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			if len(all[key]) < maxWarnings {
				all[key] = append(all[key], b)
			}
		}
	})
}
