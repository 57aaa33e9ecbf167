package scheme

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// labels are the field selectors of one kind: what a client may write → the
// name under which the kind's storage answers. metadata.name and
// metadata.namespace are always there.
type labels map[string]string

// same is a set of selectors that are stored under the name that clients write.
func same(names ...string) labels {
	l := labels{}
	for _, n := range names {
		l[n] = n
	}
	return l
}

func (l labels) convert(label, value string) (string, string, error) {
	if label == "metadata.name" || label == "metadata.namespace" {
		return label, value, nil
	}
	if to, ok := l[label]; ok {
		return to, value, nil
	}
	return "", "", fmt.Errorf("field label not supported: %s", label)
}

// fieldLabels follows the AddFieldLabelConversionFunc calls of Kubernetes. A
// kind that is not here has the two metadata selectors by default.
var fieldLabels = map[schema.GroupVersionKind]labels{
	corev1.SchemeGroupVersion.WithKind("Pod"): same("spec.nodeName", "spec.restartPolicy", "spec.schedulerName",
		"spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"),
	corev1.SchemeGroupVersion.WithKind("Node"):      same("spec.unschedulable"),
	corev1.SchemeGroupVersion.WithKind("Namespace"): {"status.phase": "status.phase", "name": "metadata.name"},
	corev1.SchemeGroupVersion.WithKind("Secret"):    same("type"),
	corev1.SchemeGroupVersion.WithKind("Service"):   same("spec.clusterIP", "spec.type"),
	corev1.SchemeGroupVersion.WithKind("Event"): same("involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
		"involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
		"reason", "reportingComponent", "source", "type"),
	eventsv1.SchemeGroupVersion.WithKind("Event"): {
		"regarding.kind": "involvedObject.kind", "regarding.namespace": "involvedObject.namespace",
		"regarding.name": "involvedObject.name", "regarding.uid": "involvedObject.uid",
		"regarding.apiVersion": "involvedObject.apiVersion", "regarding.resourceVersion": "involvedObject.resourceVersion",
		"regarding.fieldPath": "involvedObject.fieldPath", "reportingController": "reportingComponent",
		"reason": "reason", "type": "type",
	},
	appsv1.SchemeGroupVersion.WithKind("ReplicaSet"): same("status.replicas"),
}
