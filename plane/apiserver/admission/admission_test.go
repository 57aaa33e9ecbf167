package admission_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	library "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"copepod/plane/apiserver/admission"
)

// world is what is stored, by resource/namespace/name.
type world map[string]admission.Object

func (w world) Object(_ context.Context, gr schema.GroupResource, namespace, name string) (admission.Object, error) {
	if obj, ok := w[gr.Resource+"/"+namespace+"/"+name]; ok {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(gr, name)
}

func (w world) Each(_ context.Context, gr schema.GroupResource, namespace string, fn func(admission.Object) bool) error {
	for key, obj := range w {
		if strings.HasPrefix(key, gr.Resource+"/"+namespace) && !fn(obj) {
			break
		}
	}
	return nil
}

func newWorld(more world) world {
	w := world{"namespaces//team": &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}}
	for key, obj := range more {
		w[key] = obj
	}
	return w
}

// create sends an object through the whole chain.
func create(w world, obj runtime.Object, resource schema.GroupVersionResource, guard admission.Guard) error {
	chain := admission.New(admission.Config{Objects: w, Guard: guard})
	name := obj.(metav1.Object).GetName()
	a := library.NewAttributesRecord(obj, nil, schema.GroupVersionKind{}, "team", name, resource, "", library.Create, nil, false, &user.DefaultInfo{Name: "jane"})
	if err := chain.(library.MutationInterface).Admit(context.Background(), a, nil); err != nil {
		return err
	}
	return chain.(library.ValidationInterface).Validate(context.Background(), a, nil)
}

var podsResource = corev1.SchemeGroupVersion.WithResource("pods")

func pod(change func(*corev1.PodSpec)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "p"}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestChainRefusesWhatOtherObjectsForbid(t *testing.T) {
	oci, seven, low := "oci", int32(7), "low"
	overhead := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}
	class := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "oci"}, Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Mi")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "oci"}},
	}
	full := newWorld(world{
		"runtimeclasses//oci":  class,
		"priorityclasses//low": &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "low"}, Value: -5},
	})
	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		want string
	}{
		{"overhead of one's own", pod(func(s *corev1.PodSpec) { s.RuntimeClassName, s.Overhead = &oci, overhead }), "Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		{"overhead without class", pod(func(s *corev1.PodSpec) { s.Overhead = overhead }), "Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		{"selector against the class", pod(func(s *corev1.PodSpec) {
			s.RuntimeClassName, s.NodeSelector = &oci, map[string]string{"runtime": "wasm"}
		}), "conflict: runtimeClass.scheduling.nodeSelector[runtime] = oci"},
		{"priority as a number", pod(func(s *corev1.PodSpec) { s.PriorityClassName, s.Priority = low, &seven }), "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed -5"},
	} {
		err := create(full, test.pod, podsResource, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestLowestGlobalDefaultPriorityCounts(t *testing.T) {
	w := newWorld(world{
		"priorityclasses//a": &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Value: 9, GlobalDefault: true},
		"priorityclasses//b": &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Value: 3, GlobalDefault: true},
		"priorityclasses//c": &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Value: 1},
	})
	p := pod(nil)
	if err := create(w, p, podsResource, nil); err != nil {
		t.Fatal(err)
	}
	if *p.Spec.Priority != 3 || p.Spec.PriorityClassName != "b" {
		t.Errorf("got %s %d, want b 3", p.Spec.PriorityClassName, *p.Spec.Priority)
	}
}

func TestTolerationsOfOnesOwnAreLeftAlone(t *testing.T) {
	p := pod(func(s *corev1.PodSpec) {
		s.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists}}
	})
	if err := create(newWorld(nil), p, podsResource, nil); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Tolerations) != 2 || p.Spec.Tolerations[1].Key != corev1.TaintNodeUnreachable {
		t.Errorf("got %+v, want one more for unreachable", p.Spec.Tolerations)
	}
	all := pod(func(s *corev1.PodSpec) { s.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} })
	if err := create(newWorld(nil), all, podsResource, nil); err != nil || len(all.Spec.Tolerations) != 1 {
		t.Errorf("got %+v, %v; want nothing added to a toleration of everything", all.Spec.Tolerations, err)
	}
}

// stern is a guard that refuses everybody.
type stern struct{ error }

func (s stern) Check(_ context.Context, u user.Info, obj, old runtime.Object) error {
	if u.GetName() != "jane" || obj == nil || old != nil {
		return errors.New("asked the wrong way")
	}
	return s.error
}

func TestGuardIsAskedForRolesAndNothingElse(t *testing.T) {
	no := stern{errors.New("jane does not hold that")}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "r"}}
	if err := create(newWorld(nil), role, rbacv1.SchemeGroupVersion.WithResource("roles"), no); err != no.error {
		t.Errorf("got %v, want the guard's refusal", err)
	}
	if err := create(newWorld(nil), pod(nil), podsResource, no); err != nil {
		t.Errorf("got %v for a pod", err)
	}
}
