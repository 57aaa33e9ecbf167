package kinds

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBindLeavesWhatIsSharedAlone(t *testing.T) {
	shared := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse}}},
	}
	before := shared.DeepCopy()
	pod := *shared
	pod.Status.Conditions = append([]corev1.PodCondition(nil), shared.Status.Conditions...)
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"x": "y"}, Annotations: map[string]string{"z": "1"}},
		Target:     corev1.ObjectReference{Name: "node"},
	}
	if err := Bind(&pod, binding); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, shared); diff != "" {
		t.Errorf("the shared pod changed:\n%s", diff)
	}
	if pod.Labels["x"] != "y" || pod.Labels["a"] != "b" || pod.Annotations["z"] != "1" || pod.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("got %+v", pod)
	}
}

func TestBindRefusesPodsThatCannotHaveANode(t *testing.T) {
	now := metav1.Now()
	for _, test := range []struct {
		name   string
		change func(*corev1.Pod)
		want   string
	}{
		{"another of the name", func(p *corev1.Pod) { p.UID = "other" }, "Precondition failed: UID in precondition: mine, UID in object meta: other"},
		{"ending", func(p *corev1.Pod) { p.DeletionTimestamp = &now }, "pod p is being deleted, cannot be assigned to a host"},
		{"bound", func(p *corev1.Pod) { p.Spec.NodeName = "n" }, `pod p is already assigned to node "n"`},
		{"gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, "pod p has non-empty .spec.schedulingGates"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "mine"}}
		test.change(pod)
		err := Bind(pod, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "mine"}})
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestEveryRowIsComplete(t *testing.T) {
	names := map[string]bool{}
	for _, k := range table() {
		if k.Version.Version != "v1" || k.Plural == "" || k.Singular == "" || k.Kind == "" || k.Object == nil || k.List == nil {
			t.Errorf("row %+v is not complete", k)
		}
		if names[k.GroupResource().String()] {
			t.Errorf("%s has two rows", k.GroupResource())
		}
		names[k.GroupResource().String()] = true
	}
}
