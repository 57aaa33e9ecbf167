package place

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Class is everything about a pod that matters for where it may go. Pods of one
// template are of one Class: they share every answer.
type Class struct {
	// Priority orders pods: higher goes first.
	Priority int32

	key       string
	refs      int
	namespace string
	owner     types.UID // of the controller; pods of one owner are spread
	labels    labels.Set

	wants       amounts
	scored      amounts // wants, with Kubernetes' stand-ins for requests that are not set
	ports       []port
	images      []string
	tolerations []corev1.Toleration
	required    nodeaffinity.RequiredNodeAffinity
	selective   bool // required asks for something
	preferred   *nodeaffinity.PreferredSchedulingTerms

	near, apart          []term // required pod affinity and anti-affinity
	preferNear, dislikes []term // preferred ones
	spread               []spread
	on                   map[*node]int
}

// port is a port of the node that a container takes.
type port struct {
	ip       string
	protocol corev1.Protocol
	number   int32
}

// term is a pod affinity term: pods that it selects, in a topology domain.
type term struct {
	key        string // topology key
	selector   labels.Selector
	namespaces map[string]struct{}
	nsSelector labels.Selector // nil: only namespaces
	weight     int32
}

// spread is a topology spread constraint.
type spread struct {
	key                        string
	hard                       bool
	maxSkew                    int
	minDomains                 int
	selector                   labels.Selector
	honorAffinity, honorTaints bool
}

// What a container that requests nothing counts as when nodes are compared.
const (
	standInCPU    = 100               // thousandths
	standInMemory = 200 * 1024 * 1024 // bytes
)

// classKey renders what makes a Class. Two pods with the same key are of the
// same Class.
func classKey(pod *corev1.Pod) string {
	brief := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Labels: pod.Labels, UID: ownerOf(pod)},
		Spec: corev1.PodSpec{
			NodeSelector: pod.Spec.NodeSelector, Affinity: pod.Spec.Affinity, Tolerations: pod.Spec.Tolerations,
			Priority: pod.Spec.Priority, RuntimeClassName: pod.Spec.RuntimeClassName, Overhead: pod.Spec.Overhead,
			TopologySpreadConstraints: pod.Spec.TopologySpreadConstraints, Resources: pod.Spec.Resources,
			Containers: briefly(pod.Spec.Containers), InitContainers: briefly(pod.Spec.InitContainers),
		},
	}
	text, err := brief.Marshal()
	if err != nil {
		panic(fmt.Sprintf("pod %s/%s does not marshal: %v", pod.Namespace, pod.Name, err)) // it came out of the same encoding
	}
	return string(text)
}

func briefly(list []corev1.Container) []corev1.Container {
	brief := make([]corev1.Container, len(list))
	for i := range list {
		c := &list[i]
		brief[i] = corev1.Container{Image: c.Image, RestartPolicy: c.RestartPolicy, Resources: corev1.ResourceRequirements{Requests: c.Resources.Requests}}
		for j := range c.Ports {
			if c.Ports[j].HostPort > 0 {
				brief[i].Ports = append(brief[i].Ports, c.Ports[j])
			}
		}
	}
	return brief
}

func ownerOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return ref.UID
	}
	return ""
}

// newClass reads a pod. runtime is its RuntimeClass, nil when it has none or when
// that is not there: the node will refuse the pod with a reason.
func newClass(key string, pod *corev1.Pod, runtime *nodev1.RuntimeClass) *Class {
	k := &Class{
		key: key, namespace: pod.Namespace, owner: ownerOf(pod), labels: pod.Labels,
		ports: portsOf(pod), images: imagesOf(pod), tolerations: pod.Spec.Tolerations, on: map[*node]int{},
	}
	if pod.Spec.Priority != nil {
		k.Priority = *pod.Spec.Priority
	}
	k.setResources(pod, runtime)
	k.setAffinity(pod, runtime)
	for i := range pod.Spec.TopologySpreadConstraints {
		k.spread = append(k.spread, spreadOf(&pod.Spec.TopologySpreadConstraints[i], pod.Labels))
	}
	return k
}

func (k *Class) setResources(pod *corev1.Pod, runtime *nodev1.RuntimeClass) {
	k.wants = amountsOf(resource.PodRequests(pod, resource.PodResourcesOptions{}))
	standIns := corev1.ResourceList{}
	standIns[corev1.ResourceCPU] = *newMilli(standInCPU)
	standIns[corev1.ResourceMemory] = *newBytes(standInMemory)
	k.scored = amountsOf(resource.PodRequests(pod, resource.PodResourcesOptions{NonMissingContainerRequests: standIns}))
	if runtime != nil && runtime.Overhead != nil && pod.Spec.Overhead == nil {
		overhead := amountsOf(runtime.Overhead.PodFixed)
		k.wants.add(&overhead, 1)
		k.scored.add(&overhead, 1)
	}
}

func (k *Class) setAffinity(pod *corev1.Pod, runtime *nodev1.RuntimeClass) {
	selector, affinity := pod.Spec.NodeSelector, pod.Spec.Affinity
	if runtime != nil && runtime.Scheduling != nil {
		selector = maps.Clone(selector)
		if selector == nil {
			selector = map[string]string{}
		}
		maps.Copy(selector, runtime.Scheduling.NodeSelector)
		k.tolerations = append(k.tolerations[:len(k.tolerations):len(k.tolerations)], runtime.Scheduling.Tolerations...)
	}
	k.required = nodeaffinity.NewRequiredNodeAffinity(selector, affinity)
	k.selective = len(selector) > 0
	if affinity == nil {
		return
	}
	if a := affinity.NodeAffinity; a != nil {
		k.selective = k.selective || a.RequiredDuringSchedulingIgnoredDuringExecution != nil
		if len(a.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			// Validation has seen these terms; one that does not parse matches nothing.
			k.preferred, _ = nodeaffinity.NewPreferredSchedulingTerms(a.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	if a := affinity.PodAffinity; a != nil {
		k.near = k.terms(a.RequiredDuringSchedulingIgnoredDuringExecution)
		k.preferNear = k.weighted(a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		k.apart = k.terms(a.RequiredDuringSchedulingIgnoredDuringExecution)
		k.dislikes = k.weighted(a.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
}

func (k *Class) terms(list []corev1.PodAffinityTerm) []term {
	out := make([]term, len(list))
	for i := range list {
		out[i] = k.term(&list[i])
	}
	return out
}

func (k *Class) weighted(list []corev1.WeightedPodAffinityTerm, sign int32) []term {
	out := make([]term, len(list))
	for i := range list {
		out[i] = k.term(&list[i].PodAffinityTerm)
		out[i].weight = sign * list[i].Weight
	}
	return out
}

func (k *Class) term(t *corev1.PodAffinityTerm) term {
	out := term{key: t.TopologyKey, selector: selectorOf(t.LabelSelector, t.MatchLabelKeys, t.MismatchLabelKeys, k.labels), namespaces: map[string]struct{}{}}
	for _, ns := range t.Namespaces {
		out.namespaces[ns] = struct{}{}
	}
	if t.NamespaceSelector != nil {
		out.nsSelector = selectorOf(t.NamespaceSelector, nil, nil, nil)
	} else if len(t.Namespaces) == 0 {
		out.namespaces[k.namespace] = struct{}{}
	}
	return out
}

func spreadOf(c *corev1.TopologySpreadConstraint, own labels.Set) spread {
	s := spread{
		key: c.TopologyKey, hard: c.WhenUnsatisfiable == corev1.DoNotSchedule, maxSkew: int(max(1, c.MaxSkew)), minDomains: 1,
		selector: selectorOf(c.LabelSelector, c.MatchLabelKeys, nil, own), honorAffinity: true,
	}
	if c.MinDomains != nil {
		s.minDomains = int(*c.MinDomains)
	}
	if c.NodeAffinityPolicy != nil {
		s.honorAffinity = *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	}
	if c.NodeTaintsPolicy != nil {
		s.honorTaints = *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	}
	return s
}

// selectorOf adds "the same (or another) value as mine" for some keys to a
// selector. A selector that does not parse, which validation keeps out, selects
// nothing, like none at all.
func selectorOf(s *metav1.LabelSelector, match, mismatch []string, own labels.Set) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	for i, key := range append(match[:len(match):len(match)], mismatch...) {
		op := metav1.LabelSelectorOpIn
		if i >= len(match) {
			op = metav1.LabelSelectorOpNotIn
		}
		if value, ok := own[key]; ok {
			if r, err := requirement(key, op, value); err == nil {
				sel = sel.Add(*r)
			}
		}
	}
	return sel
}

func portsOf(pod *corev1.Pod) []port {
	var list []port
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort > 0 {
					list = append(list, port{ip: p.HostIP, protocol: p.Protocol, number: p.HostPort})
				}
			}
		}
	}
	return list
}

// clashes tells whether two pods cannot both have their port on one node.
func (p port) clashes(q port) bool {
	anyIP := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return p.number == q.number && p.protocol == q.protocol && (p.ip == q.ip || anyIP(p.ip) || anyIP(q.ip))
}

func imagesOf(pod *corev1.Pod) []string {
	list := make([]string, 0, len(pod.Spec.Containers))
	for i := range pod.Spec.Containers {
		list = append(list, tagged(pod.Spec.Containers[i].Image))
	}
	return list
}

// tagged adds the tag that an image without one has.
func tagged(image string) string {
	if strings.LastIndex(image, ":") <= strings.LastIndex(image, "/") {
		return image + ":latest"
	}
	return image
}
