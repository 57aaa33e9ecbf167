package nodes

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Kinds of objects that a node reaches through its pods, by resource name in the
// core group.
const (
	pods            = "pods"
	secrets         = "secrets"
	configMaps      = "configmaps"
	claims          = "persistentvolumeclaims"
	serviceAccounts = "serviceaccounts"
)

// maxRecent bounds the namespaces whose last references are remembered.
const maxRecent = 4096

// A Graph knows which objects the pods of each node refer to. It is fed with
// every pod as it changes, cheaply enough to sit behind a watch of a million, and
// answers in constant time. The zero value is empty and ready; it is safe for
// concurrent use.
type Graph struct {
	mu    sync.RWMutex
	pods  map[podKey]bound
	edges map[edge]int // how many pods of the node refer to the object
	// recent is the last list of references in a namespace: pods of one template
	// come in a row and refer to the same, so they share it.
	recent map[string][]object
}

type podKey struct{ namespace, name string }

type object struct{ resource, namespace, name string }

type edge struct {
	node string
	object
}

type bound struct {
	node string
	refs []object // sorted, without repetitions, shared: never changed
}

// Set notes a pod as it is now. A pod that is bound to no node gives nobody
// anything.
func (g *Graph) Set(pod *corev1.Pod) {
	next := bound{node: pod.Spec.NodeName}
	if next.node != "" {
		next.refs = references(pod)
	}
	g.replace(podKey{pod.Namespace, pod.Name}, next)
}

// Delete forgets a pod.
func (g *Graph) Delete(namespace, name string) {
	g.replace(podKey{namespace, name}, bound{})
}

func (g *Graph) replace(key podKey, next bound) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pods == nil {
		g.pods, g.edges, g.recent = make(map[podKey]bound), make(map[edge]int), make(map[string][]object)
	}
	prev := g.pods[key]
	if prev.node == next.node && slices.Equal(prev.refs, next.refs) {
		return // most changes of pods are of their status
	}
	for _, ref := range next.refs { // first, so that shared ones never vanish
		g.edges[edge{next.node, ref}]++
	}
	for _, ref := range prev.refs {
		e := edge{prev.node, ref}
		if g.edges[e]--; g.edges[e] == 0 {
			delete(g.edges, e)
		}
	}
	if next.node == "" {
		delete(g.pods, key)
		return
	}
	if recent := g.recent[key.namespace]; slices.Equal(recent, next.refs) {
		next.refs = recent
	} else {
		if len(g.recent) >= maxRecent { // namespaces come and go
			clear(g.recent)
		}
		g.recent[key.namespace] = next.refs
	}
	g.pods[key] = next
}

// Reaches tells whether a pod bound to the node is, or refers to, the object;
// resource is one of the core group.
func (g *Graph) Reaches(node, resource, namespace, name string) bool {
	if node == "" {
		return false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if resource == pods {
		return g.pods[podKey{namespace, name}].node == node
	}
	return g.edges[edge{node, object{resource, namespace, name}}] > 0
}

// references lists what a pod refers to, sorted, each once.
func references(pod *corev1.Pod) []object {
	refs := collect(pod)
	slices.SortFunc(refs, func(a, b object) int {
		return cmp.Or(strings.Compare(a.resource, b.resource), strings.Compare(a.name, b.name))
	})
	return slices.Clip(slices.Compact(refs))
}

func collect(pod *corev1.Pod) []object {
	c := collector{namespace: pod.Namespace, refs: make([]object, 0, 8)}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		// A node makes these itself: they must not open anything to it.
		return nil
	}
	c.add(serviceAccounts, pod.Spec.ServiceAccountName)
	for _, s := range pod.Spec.ImagePullSecrets {
		c.add(secrets, s.Name)
	}
	for i := range pod.Spec.InitContainers {
		c.environment(pod.Spec.InitContainers[i].Env, pod.Spec.InitContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Containers {
		c.environment(pod.Spec.Containers[i].Env, pod.Spec.Containers[i].EnvFrom)
	}
	for i := range pod.Spec.EphemeralContainers {
		c.environment(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Volumes {
		c.volume(pod.Name, &pod.Spec.Volumes[i])
	}
	return c.refs
}

type collector struct {
	namespace string
	refs      []object
}

func (c *collector) add(resource, name string) {
	if name != "" {
		c.refs = append(c.refs, object{resource, c.namespace, name})
	}
}

func (c *collector) environment(env []corev1.EnvVar, from []corev1.EnvFromSource) {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			c.add(secrets, r.Name)
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			c.add(configMaps, r.Name)
		}
	}
	for _, f := range from {
		if f.SecretRef != nil {
			c.add(secrets, f.SecretRef.Name)
		}
		if f.ConfigMapRef != nil {
			c.add(configMaps, f.ConfigMapRef.Name)
		}
	}
}

func (c *collector) volume(pod string, v *corev1.Volume) {
	switch {
	case v.Secret != nil:
		c.add(secrets, v.Secret.SecretName)
	case v.ConfigMap != nil:
		c.add(configMaps, v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		c.add(claims, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		c.add(claims, pod+"-"+v.Name) // the name that its claim is given
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		c.add(secrets, v.CSI.NodePublishSecretRef.Name)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				c.add(secrets, s.Secret.Name)
			}
			if s.ConfigMap != nil {
				c.add(configMaps, s.ConfigMap.Name)
			}
		}
	}
}
