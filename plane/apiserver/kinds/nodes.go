package kinds

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
)

func nodes() *Kind {
	return &Kind{
		Version: corev1.SchemeGroupVersion, Plural: "nodes", Singular: "node", Kind: "Node", Cluster: true,
		Object: &corev1.Node{}, List: &corev1.NodeList{}, Short: []string{"no"},
		Status:         true,
		StatusOnCreate: true, // a node registers with its capacity
		Fields: selectors(func(node *corev1.Node, set fields.Set) {
			set["spec.unschedulable"] = strconv.FormatBool(node.Spec.Unschedulable)
		}),
	}
}
