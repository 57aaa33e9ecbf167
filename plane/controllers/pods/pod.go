// Package pods keeps what controllers need of every pod, in a tenth of the
// memory of the pods themselves, with the groups that controllers ask for: pods
// by owner with running totals, by node, and by labels. It knows pods and
// nothing of who asks.
//
// Totals per owner are kept as pods change, so that a ReplicaSet of ten thousand
// pods learns its status without walking them.
package pods

import (
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
)

// Owner is the controller in a pod's owner references.
type Owner struct {
	Kind, Name string
	UID        types.UID
}

// Pod is the projection of one pod. It is shared: never change one.
type Pod struct {
	Key     types.NamespacedName
	UID     types.UID
	Labels  Labels
	owner   unique.Handle[Owner]
	ports   unique.Handle[string]
	Node    string
	Created time.Time
	// ReadySince is when the Ready condition became true, zero while it is not.
	ReadySince time.Time
	Phase      corev1.PodPhase
	IPs        []string
	Hostname   string
	Subdomain  string
	Restarts   int32
	// DeletionCost is the annotation controller.kubernetes.io/pod-deletion-cost.
	DeletionCost int32
	Ready        bool
	// Deleting is set from the moment a deletion was accepted.
	Deleting bool
}

// Port is a declared container port.
type Port struct {
	Name     string
	Number   int32
	Protocol corev1.Protocol
}

// Owner is the pod's controller; the zero Owner when it has none.
func (p *Pod) Owner() Owner { return p.owner.Value() }

// Terminal tells whether the pod has finished for good.
func (p *Pod) Terminal() bool {
	return p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed
}

// Active tells whether the pod counts for the one that wants it to run.
func (p *Pod) Active() bool { return !p.Terminal() && !p.Deleting }

// AvailableAt is when the pod will have been ready for min; false while it is
// not ready.
func (p *Pod) AvailableAt(min time.Duration) (time.Time, bool) {
	return p.ReadySince.Add(min), p.Ready
}

// Ports lists the declared ports of containers and sidecars, in order.
func (p *Pod) Ports() []Port {
	var list []Port
	for rest := p.ports.Value(); rest != ""; {
		var name, proto, num string
		name, rest, _ = strings.Cut(rest, sep)
		proto, rest, _ = strings.Cut(rest, sep)
		num, rest, _ = strings.Cut(rest, sep)
		n, _ := strconv.ParseInt(num, 10, 32)
		list = append(list, Port{Name: name, Number: int32(n), Protocol: corev1.Protocol(proto)})
	}
	return list
}

// PortSet is one shared word for the declared ports: equal for pods that declare
// the same.
func (p *Pod) PortSet() string { return p.ports.Value() }

// Project makes the projection of a pod; false for what is not a pod.
func Project(o api.Object) (*Pod, bool) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil, false
	}
	p := &Pod{
		Key:     api.Key(pod),
		UID:     pod.UID,
		Labels:  MakeLabels(pod.Labels),
		owner:   unique.Make(ownerOf(pod)),
		ports:   unique.Make(portsOf(pod)),
		Node:    unique.Make(pod.Spec.NodeName).Value(),
		Created: pod.CreationTimestamp.Time,
		Phase:   pod.Status.Phase, IPs: ipsOf(pod),
		Hostname: pod.Spec.Hostname, Subdomain: pod.Spec.Subdomain,
		Deleting: pod.DeletionTimestamp != nil,
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			p.Ready, p.ReadySince = true, c.LastTransitionTime.Time
		}
	}
	for i := range pod.Status.ContainerStatuses {
		p.Restarts += pod.Status.ContainerStatuses[i].RestartCount
	}
	if v, ok := pod.Annotations[corev1.PodDeletionCost]; ok {
		if cost, err := strconv.ParseInt(v, 10, 32); err == nil {
			p.DeletionCost = int32(cost)
		}
	}
	return p, true
}

func doomed(p *Pod) *Pod {
	d := *p
	d.Deleting = true
	return &d
}

func ownerOf(pod *corev1.Pod) Owner {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return Owner{}
	}
	return Owner{Kind: ref.Kind, Name: ref.Name, UID: ref.UID}
}

func ipsOf(pod *corev1.Pod) []string {
	if len(pod.Status.PodIPs) == 0 {
		if pod.Status.PodIP == "" {
			return nil
		}
		return []string{pod.Status.PodIP}
	}
	list := make([]string, len(pod.Status.PodIPs))
	for i, ip := range pod.Status.PodIPs {
		list[i] = ip.IP
	}
	return list
}

func portsOf(pod *corev1.Pod) string {
	var b strings.Builder
	add := func(c *corev1.Container) {
		for i := range c.Ports {
			port := &c.Ports[i]
			b.WriteString(port.Name + sep + string(port.Protocol) + sep + strconv.Itoa(int(port.ContainerPort)) + sep)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return b.String()
}
