package pods

import (
	v1 "k8s.io/api/core/v1"

	"copepod/node/objects"
)

// References are the ConfigMaps and Secrets that a pod needs to start and to
// keep running.
func References(pod *v1.Pod) []objects.Ref {
	seen := map[objects.Ref]bool{}
	var out []objects.Ref
	add := func(kind objects.Kind, name string) {
		ref := objects.Ref{Kind: kind, Namespace: pod.Namespace, Name: name}
		if name != "" && !seen[ref] {
			seen[ref] = true
			out = append(out, ref)
		}
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i], add)
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			containerReferences(&list[i], add)
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(objects.Secret, s.Name)
	}
	return out
}

func volumeReferences(v *v1.Volume, add func(objects.Kind, string)) {
	switch {
	case v.ConfigMap != nil:
		add(objects.ConfigMap, v.ConfigMap.Name)
	case v.Secret != nil:
		add(objects.Secret, v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(objects.ConfigMap, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				add(objects.Secret, s.Secret.Name)
			}
		}
	}
}

func containerReferences(c *v1.Container, add func(objects.Kind, string)) {
	for _, f := range c.EnvFrom {
		if f.ConfigMapRef != nil {
			add(objects.ConfigMap, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add(objects.Secret, f.SecretRef.Name)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(objects.ConfigMap, r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(objects.Secret, r.Name)
		}
	}
}
