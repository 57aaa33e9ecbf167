package apiserver_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bind gives a pod a node.
func bind(t testing.TB, namespace, name, node string) error {
	t.Helper()
	return one.CoreV1().Pods(namespace).Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

// boundPod makes a pod that has a node, so that it ends gracefully.
func boundPod(t testing.TB, namespace, name string) *corev1.Pod {
	t.Helper()
	pod := must(one.CoreV1().Pods(namespace).Create(t.Context(), newPod(namespace, name), metav1.CreateOptions{}))(t)
	if err := bind(t, namespace, name, "node-1"); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestUnscheduledPodIsGoneAtOnce(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestScheduledPodStaysForItsGracePeriod(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	boundPod(t, namespace, "p")
	if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := must(one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{}))(t)
	if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("got deletionTimestamp %v, grace %v; want 30 s from now", pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds)
	}
	if pod.Generation != 2 {
		t.Errorf("got generation %d after the deletion began, want 2", pod.Generation)
	}
	// A shorter period is heard, a longer one is not.
	five, sixty := int64(5), int64(60)
	for _, seconds := range []*int64{&sixty, &five} {
		if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: seconds}); err != nil {
			t.Fatal(err)
		}
	}
	pod = must(one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{}))(t)
	if *pod.DeletionGracePeriodSeconds != 5 {
		t.Errorf("got grace %d, want 5", *pod.DeletionGracePeriodSeconds)
	}
	// The node's last word.
	zero := int64(0)
	if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	_, err := one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestFinishedPodIsGoneAtOnce(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	boundPod(t, namespace, "p")
	pod := must(one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{}))(t)
	pod.Status.Phase = corev1.PodSucceeded
	must(one.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}))(t)
	if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestDeletionWithAnotherUIDIsAConflict(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	err := one.CoreV1().Pods(namespace).Delete(ctx, "p", *metav1.NewPreconditionDeleteOptions("another"))
	wantReason(t, err, metav1.StatusReasonConflict)
}

func TestFinalizerHoldsAnObjectUntilItIsRemoved(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	maps := one.CoreV1().ConfigMaps(namespace)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}
	must(maps.Create(ctx, cm, metav1.CreateOptions{}))(t)
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if held := must(maps.Get(ctx, "held", metav1.GetOptions{}))(t); held.DeletionTimestamp == nil {
		t.Error("deletion did not begin")
	}
	must(maps.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(t)
	_, err := maps.Get(ctx, "held", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestPropagationPolicyBecomesAFinalizer(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	for policy, want := range map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents,
		metav1.DeletePropagationOrphan:     metav1.FinalizerOrphanDependents,
	} {
		t.Run(string(policy), func(t *testing.T) {
			must(apply(t, namespace, "m", "1", metav1.PatchOptions{}))(t)
			deployments := one.AppsV1().Deployments(namespace)
			if err := deployments.Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
				t.Fatal(err)
			}
			d := must(deployments.Get(ctx, "web", metav1.GetOptions{}))(t)
			if d.DeletionTimestamp == nil || len(d.Finalizers) != 1 || d.Finalizers[0] != want {
				t.Errorf("got finalizers %q, want %q", d.Finalizers, want)
			}
			must(deployments.Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(t)
		})
	}
}

func TestCollectionIsDeletedByLabel(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	maps := one.CoreV1().ConfigMaps(namespace)
	for _, name := range []string{"a", "b", "c"} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"keep": "no"}}}
		if name == "c" {
			cm.Labels["keep"] = "yes"
		}
		must(maps.Create(ctx, cm, metav1.CreateOptions{}))(t)
	}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "keep=no"}); err != nil {
		t.Fatal(err)
	}
	left := must(maps.List(ctx, metav1.ListOptions{}))(t)
	if len(left.Items) != 1 || left.Items[0].Name != "c" {
		t.Errorf("got %d left, want c alone", len(left.Items))
	}
}

func TestNamespaceTurnsTerminatingRefusesContentAndIsFinalized(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	namespaces := one.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ns := must(namespaces.Get(ctx, namespace, metav1.GetOptions{}))(t)
	if ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Fatalf("got phase %s, want Terminating", ns.Status.Phase)
	}
	_, err := one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "late"), metav1.CreateOptions{})
	wantError(t, err, `pods "late" is forbidden: unable to create new content in namespace `+namespace+` because it is being terminated`)

	ns.Spec.Finalizers = nil
	must(namespaces.Finalize(ctx, ns, metav1.UpdateOptions{}))(t)
	_, err = namespaces.Get(ctx, namespace, metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
	_, err = one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "later"), metav1.CreateOptions{})
	wantError(t, err, `namespaces "`+namespace+`" not found`)
}

func TestNamespacesThatEverythingStandsOnCannotBeDeleted(t *testing.T) {
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		err := one.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{})
		wantError(t, err, `namespaces "`+name+`" is forbidden: this namespace may not be deleted`)
	}
}

func TestWatchSeesAPodFromCreationToRemoval(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	w := must(one.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=node-1"}))(t)
	defer w.Stop()
	boundPod(t, namespace, "p")
	zero := int64(0)
	if err := one.CoreV1().Pods(namespace).Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		select {
		case e := <-w.ResultChan():
			got = append(got, string(e.Type))
			if e.Type != "DELETED" {
				continue
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("got only %q", got)
		}
		break
	}
	if got[0] != "ADDED" || len(got) > 3 {
		t.Errorf("got events %q, want ADDED … DELETED", got)
	}
}
