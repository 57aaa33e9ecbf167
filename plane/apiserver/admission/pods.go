package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
)

var (
	pods            = corev1.Resource("pods")
	serviceAccounts = corev1.Resource("serviceaccounts")
	runtimeClasses  = schema.GroupResource{Group: nodev1.GroupName, Resource: "runtimeclasses"}
	priorityClasses = schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}
)

// newPod gives the pod that a request creates, and nil for all other requests.
func newPod(a admission.Attributes) *corev1.Pod {
	if a.GetOperation() != admission.Create || !is(a, pods) {
		return nil
	}
	pod, _ := a.GetObject().(*corev1.Pod)
	return pod
}

// serviceAccount names the account that a pod acts as. Only a pod that asks for
// a particular one needs it to exist: "default" is made by a controller and may
// be a moment behind its namespace.
type serviceAccount struct{ objects Objects }

func (s serviceAccount) admit(ctx context.Context, a admission.Attributes) error {
	pod := newPod(a)
	if pod == nil {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	return nil
}

func (s serviceAccount) validate(ctx context.Context, a admission.Attributes) error {
	pod := newPod(a)
	if pod == nil || pod.Spec.ServiceAccountName == "" || pod.Spec.ServiceAccountName == "default" {
		return nil
	}
	if _, err := s.objects.Object(ctx, serviceAccounts, a.GetNamespace(), pod.Spec.ServiceAccountName); err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), pod.Spec.ServiceAccountName, err))
	}
	return nil
}

// tolerationSeconds bounds how long a pod stays on a node that is lost.
type tolerationSeconds struct{ seconds int64 }

func (t tolerationSeconds) admit(_ context.Context, a admission.Attributes) error {
	pod := newPod(a)
	if pod == nil {
		return nil
	}
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !tolerates(pod.Spec.Tolerations, taint) {
			seconds := t.seconds
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
			})
		}
	}
	return nil
}

func (tolerationSeconds) validate(context.Context, admission.Attributes) error { return nil }

func tolerates(list []corev1.Toleration, taint string) bool {
	for i := range list {
		t := &list[i]
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// runtimeClass makes a pod carry the overhead and the placement of its class. A
// pod without a class runs as wasm.
type runtimeClass struct{ objects Objects }

func (r runtimeClass) class(ctx context.Context, a admission.Attributes) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	pod := newPod(a)
	if pod == nil || pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return pod, nil, nil
	}
	name := *pod.Spec.RuntimeClassName
	obj, err := r.objects.Object(ctx, runtimeClasses, "", name)
	if apierrors.IsNotFound(err) {
		return pod, nil, admission.NewForbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	if err != nil {
		return pod, nil, err
	}
	return pod, obj.(*nodev1.RuntimeClass), nil
}

func (r runtimeClass) admit(ctx context.Context, a admission.Attributes) error {
	pod, class, err := r.class(ctx, a)
	if err != nil || class == nil {
		return err
	}
	if class.Overhead != nil {
		if pod.Spec.Overhead != nil && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return admission.NewForbidden(a, fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
		pod.Spec.Overhead = class.Overhead.DeepCopy().PodFixed
	}
	if class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if own, set := pod.Spec.NodeSelector[key]; set && own != value {
			return admission.NewForbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own))
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		pod.Spec.NodeSelector[key] = value
	}
	for i := range class.Scheduling.Tolerations {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, *class.Scheduling.Tolerations[i].DeepCopy())
	}
	return nil
}

func (r runtimeClass) validate(ctx context.Context, a admission.Attributes) error {
	pod, class, err := r.class(ctx, a)
	if err != nil || pod == nil {
		return err
	}
	if pod.Spec.Overhead != nil && (class == nil || class.Overhead == nil) {
		return admission.NewForbidden(a, fmt.Errorf("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}

// priority turns a pod's priority class into its number.
type priority struct{ objects Objects }

func (p priority) admit(ctx context.Context, a admission.Attributes) error {
	pod := newPod(a)
	if pod == nil {
		return nil
	}
	var value int32
	policy := corev1.PreemptLowerPriority
	class, err := p.class(ctx, pod.Spec.PriorityClassName)
	switch {
	case apierrors.IsNotFound(err):
		return admission.NewForbidden(a, fmt.Errorf("no PriorityClass with name %s was found", pod.Spec.PriorityClassName))
	case err != nil:
		return err
	case class != nil:
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if own := pod.Spec.Priority; own != nil && *own != value {
		return admission.NewForbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *own, value))
	}
	if own := pod.Spec.PreemptionPolicy; own != nil && *own != policy {
		return admission.NewForbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *own, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

func (p priority) validate(context.Context, admission.Attributes) error { return nil }

// class finds the named class, or the global default for no name, or none.
func (p priority) class(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		obj, err := p.objects.Object(ctx, priorityClasses, "", name)
		if err != nil {
			return nil, err
		}
		return obj.(*schedulingv1.PriorityClass), nil
	}
	var lowest *schedulingv1.PriorityClass
	err := p.objects.Each(ctx, priorityClasses, "", func(obj Object) bool {
		class := obj.(*schedulingv1.PriorityClass)
		if class.GlobalDefault && (lowest == nil || class.Value < lowest.Value) {
			lowest = class
		}
		return true
	})
	return lowest, err
}
