// Package downward answers what a container asks about its own pod: the fields
// and resources of the Kubernetes downward API, for environment variables and
// files alike. It is pure: it knows a pod and a few facts about its node, and
// never learns where they came from or where the answer goes.
//
//	value, err := downward.Source{Pod: pod, PodIP: ip}.Field("metadata.labels['app']")
package downward

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Source is what is known of a pod where it runs. Addresses are those of now:
// the pod's own status may not have them yet.
type Source struct {
	Pod         *v1.Pod
	PodIP       string
	HostIP      string
	Allocatable v1.ResourceList // of the node: what a container without limits is limited by
}

// Field is the value of a fieldRef's path.
func (s Source) Field(path string) (string, error) {
	if base, key, ok := subscript(path); ok {
		switch base {
		case "metadata.labels":
			return s.Pod.Labels[key], nil
		case "metadata.annotations":
			return s.Pod.Annotations[key], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	switch path {
	case "metadata.name":
		return s.Pod.Name, nil
	case "metadata.namespace":
		return s.Pod.Namespace, nil
	case "metadata.uid":
		return string(s.Pod.UID), nil
	case "metadata.labels":
		return lines(s.Pod.Labels), nil
	case "metadata.annotations":
		return lines(s.Pod.Annotations), nil
	case "spec.nodeName":
		return s.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return s.Pod.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return s.HostIP, nil
	case "status.podIP", "status.podIPs":
		return s.PodIP, nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %s", path)
}

// subscript splits "metadata.labels['key']".
func subscript(path string) (base, key string, ok bool) {
	if !strings.HasSuffix(path, "']") {
		return "", "", false
	}
	return strings.Cut(strings.TrimSuffix(path, "']"), "['")
}

// lines is a map as the files of the downward API show it.
func lines(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(out, "\n")
}

// Resource is the value of a resourceFieldRef. c is the container that asks;
// the reference may name another of the same pod.
func (s Source) Resource(c *v1.Container, ref *v1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" && (c == nil || c.Name != ref.ContainerName) {
		if c = s.container(ref.ContainerName); c == nil {
			return "", fmt.Errorf("container %q not found", ref.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %q: no container named", ref.Resource)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	q, found := list[v1.ResourceName(name)]
	if !found && kind == "limits" {
		q = s.Allocatable[v1.ResourceName(name)]
	}
	return divide(v1.ResourceName(name), q, ref.Divisor), nil
}

func (s Source) container(name string) *v1.Container {
	for _, list := range [][]v1.Container{s.Pod.Spec.Containers, s.Pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// divide counts a quantity in units of the divisor, rounded up. Processor time
// divides in thousandths, all else in whole units.
func divide(name v1.ResourceName, q, by resource.Quantity) string {
	if by.IsZero() {
		by = *resource.NewQuantity(1, resource.DecimalSI)
	}
	n, d := q.Value(), by.Value()
	if name == v1.ResourceCPU {
		n, d = q.MilliValue(), by.MilliValue()
	}
	if d == 0 {
		return "0"
	}
	return strconv.FormatInt(int64(math.Ceil(float64(n)/float64(d))), 10)
}
