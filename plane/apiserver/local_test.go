package apiserver_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/apiserver/local"
)

var (
	podsResource       = corev1.Resource("pods")
	configMapsResource = corev1.Resource("configmaps")
)

// likeness strips what tells two equal objects apart.
func likeness(obj local.Object) local.Object {
	obj = obj.DeepCopyObject().(local.Object)
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{}) // client-go drops it
	obj.SetName("")
	obj.SetUID("")
	obj.SetResourceVersion("")
	obj.SetCreationTimestamp(metav1.Time{})
	entries := obj.GetManagedFields()
	for i := range entries {
		entries[i].Manager, entries[i].Time = "", nil
	}
	obj.SetManagedFields(entries)
	return obj
}

// webDeployment is a deployment as a client would write it.
func webDeployment(namespace, name string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{"a": "b"}},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       newPod("", "").Spec,
			},
		},
	}
}

func TestInProcessCreateIsTheSameAsOverHTTP(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()

	overHTTP := must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "http"), metav1.CreateOptions{}))(t)
	inProcess := must(here.Create(ctx, newPod(namespace, "local")))(t)
	if diff := cmp.Diff(likeness(overHTTP), likeness(inProcess)); diff != "" {
		t.Errorf("pods differ (-http +local):\n%s", diff)
	}
	batch, errs := here.CreateAll(ctx, []local.Object{newPod(namespace, "one"), newPod(namespace, "two"), newPod(namespace, "three")})
	for i := range batch {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if diff := cmp.Diff(likeness(overHTTP), likeness(batch[i])); diff != "" {
			t.Errorf("pod %d of a batch differs (-http +local):\n%s", i, diff)
		}
	}
	if batch[1].GetUID() == batch[2].GetUID() || batch[2].GetName() != "three" {
		t.Errorf("siblings are mixed up: %s %s", batch[2].GetName(), batch[2].GetUID())
	}
	httpDeployment := must(one.AppsV1().Deployments(namespace).Create(ctx, webDeployment(namespace, "http"), metav1.CreateOptions{}))(t)
	localDeployment := must(here.Create(ctx, webDeployment(namespace, "local")))(t)
	if diff := cmp.Diff(likeness(httpDeployment), likeness(localDeployment)); diff != "" {
		t.Errorf("deployments differ (-http +local):\n%s", diff)
	}
}

func TestInProcessUpdateIsTheSameAsOverHTTP(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here, deployments := one.Local(), one.AppsV1().Deployments(namespace)
	five := int32(5)
	change := func(d *appsv1.Deployment) *appsv1.Deployment {
		d = d.DeepCopy()
		d.Spec.Replicas, d.Labels = &five, map[string]string{"changed": "yes"}
		d.Status.Replicas = 7 // ignored
		return d
	}
	status := func(d *appsv1.Deployment) *appsv1.Deployment {
		d = d.DeepCopy()
		d.Spec.Replicas, d.Labels = nil, nil // ignored
		d.Status.ObservedGeneration, d.Status.Replicas = 2, 5
		return d
	}
	a := must(deployments.Create(ctx, webDeployment(namespace, "http"), metav1.CreateOptions{}))(t)
	a = must(deployments.Update(ctx, change(a), metav1.UpdateOptions{}))(t)
	a = must(deployments.UpdateStatus(ctx, status(a), metav1.UpdateOptions{}))(t)

	b := must(here.Create(ctx, webDeployment(namespace, "local")))(t)
	b = must(here.Update(ctx, change(b.(*appsv1.Deployment))))(t)
	b = must(here.UpdateStatus(ctx, status(b.(*appsv1.Deployment))))(t)
	if diff := cmp.Diff(likeness(a), likeness(b)); diff != "" {
		t.Errorf("deployments differ (-http +local):\n%s", diff)
	}
	read := must(deployments.Get(ctx, "local", metav1.GetOptions{}))(t)
	if diff := cmp.Diff(likeness(b), likeness(read)); diff != "" {
		t.Errorf("HTTP reads it differently (-local +http):\n%s", diff)
	}
}

func TestInProcessErrorsAreThoseOfHTTP(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	must(here.Create(ctx, newPod(namespace, "there")))(t)
	boundPod(t, namespace, "bound")
	invalid := newPod(namespace, "invalid")
	invalid.Spec.Containers = nil
	none := "none"
	classless := newPod(namespace, "classless")
	classless.Spec.RuntimeClassName = &none
	for name, pod := range map[string]*corev1.Pod{
		"exists": newPod(namespace, "there"), "invalid": invalid, "class": classless, "name": newPod(namespace, "NO"),
		"no namespace": newPod("nowhere", "p"),
	} {
		_, want := one.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		_, got := here.Create(ctx, pod)
		if fmt.Sprint(got) != fmt.Sprint(want) || apierrors.ReasonForError(got) != apierrors.ReasonForError(want) {
			t.Errorf("%s: got\n\t%v\nwant\n\t%v", name, got, want)
		}
	}
	stale := newPod(namespace, "there")
	stale.ResourceVersion = "1"
	_, want := one.CoreV1().Pods(namespace).Update(ctx, stale, metav1.UpdateOptions{})
	_, got := here.Update(ctx, stale)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stale: got %v, want %v", got, want)
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bound"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}
	want = bind(t, namespace, "bound", "n")
	if got := here.BindAll(ctx, []*corev1.Binding{binding})[0]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("binding: got %v, want %v", got, want)
	}
}

func TestOneRefusalDoesNotStopABatch(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	bad := newPod(namespace, "bad")
	bad.Spec.Containers = nil
	generated := newPod(namespace, "")
	generated.GenerateName = "gen-"
	out, errs := one.Local().CreateAll(ctx, []local.Object{
		newPod(namespace, "a"), bad, newPod(namespace, "a"), generated, generated,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c"}},
	})
	if errs[0] != nil || errs[3] != nil || errs[4] != nil || errs[5] != nil {
		t.Errorf("good ones were refused: %v", errs)
	}
	wantReason(t, errs[1], metav1.StatusReasonInvalid)
	wantReason(t, errs[2], metav1.StatusReasonAlreadyExists)
	if out[3].GetName() == out[4].GetName() || len(out[3].GetName()) != len("gen-12345") {
		t.Errorf("got generated names %s, %s", out[3].GetName(), out[4].GetName())
	}
}

func TestInProcessIdentityIsJudgedByRBAC(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	nobody := one.Local().As("system:serviceaccount:default:nobody")
	_, err := nobody.Create(ctx, newPod(namespace, "p"))
	wantError(t, err, fmt.Sprintf(`pods is forbidden: User "system:serviceaccount:default:nobody" cannot create resource "pods" in API group "" in the namespace %q`, namespace))
	controller := one.Local().As("system:serviceaccount:kube-system:replicaset-controller")
	pod := must(controller.Create(ctx, newPod(namespace, "p")))(t)
	if got := pod.GetManagedFields()[0].Manager; got != "replicaset-controller" {
		t.Errorf("got field manager %q", got)
	}
	err = controller.Delete(ctx, corev1.Resource("nodes"), "", "any", metav1.DeleteOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden)
}

func TestModifyStartsOverWhenSomebodyWasFaster(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	must(here.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c"}}))(t)
	tries := 0
	out, err := here.Modify(ctx, configMapsResource, namespace, "c", "", func(obj local.Object) error {
		if tries++; tries == 1 {
			must(one.CoreV1().ConfigMaps(namespace).Patch(ctx, "c", types.MergePatchType, []byte(`{"data":{"other":"1"}}`), metav1.PatchOptions{}))(t)
		}
		cm := obj.(*corev1.ConfigMap)
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		cm.Data["mine"] = "1"
		return nil
	})
	if err != nil || tries != 2 {
		t.Fatalf("got %v after %d tries, want success after 2", err, tries)
	}
	if data := out.(*corev1.ConfigMap).Data; data["other"] != "1" || data["mine"] != "1" {
		t.Errorf("got data %v", data)
	}
	refusal := fmt.Errorf("no change")
	if _, err := here.Modify(ctx, configMapsResource, namespace, "c", "", func(local.Object) error { return refusal }); err != refusal {
		t.Errorf("got %v, want the error of the change itself", err)
	}
	_, err = here.Modify(ctx, configMapsResource, namespace, "none", "", func(local.Object) error { return nil })
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestViewIsAnUnchangingMoment(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	must(here.Create(ctx, newPod(namespace, "before")))(t)
	view := here.View()
	created := must(here.Create(ctx, newPod(namespace, "after")))(t)
	names := func(v local.View) (names []string) {
		for obj := range v.List(podsResource, namespace) {
			names = append(names, obj.GetName())
		}
		return names
	}
	if got := names(view); !slices.Equal(got, []string{"before"}) {
		t.Errorf("old view shows %q", got)
	}
	if got := names(here.View()); !slices.Equal(got, []string{"after", "before"}) {
		t.Errorf("new view shows %q", got)
	}
	again, ok := here.View().Get(podsResource, namespace, "after")
	if !ok || again != created {
		t.Error("the created object is not the shared one")
	}
	if here.View().Revision() <= view.Revision() {
		t.Error("revision did not grow")
	}
}

func TestWatchInProcessDeliversEveryChangeInOrder(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	events := must(here.Watch(ctx, podsResource, here.View().Revision()))(t)
	must(here.Create(ctx, newPod(namespace, "p")))(t)
	if errs := here.BindAll(ctx, []*corev1.Binding{{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	zero := int64(0)
	if err := here.Delete(ctx, podsResource, namespace, "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	var got []local.Event
	for batch := range events {
		for _, e := range batch {
			if e.Object.GetNamespace() == namespace {
				got = append(got, e)
			}
		}
		if len(got) > 0 && got[len(got)-1].Type == watch.Deleted {
			break
		}
	}
	if len(got) < 3 || got[0].Type != watch.Added || got[0].Old != nil {
		t.Fatalf("got %d events, want the creation first", len(got))
	}
	if bound := got[1]; bound.Object.(*corev1.Pod).Spec.NodeName != "n" || bound.Old.(*corev1.Pod).Spec.NodeName != "" {
		t.Errorf("second event is not the binding: %+v", bound)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Rev <= got[i-1].Rev {
			t.Errorf("event %d has revision %d after %d", i, got[i].Rev, got[i-1].Rev)
		}
	}
}

func TestDeleteAllAnswersForEachName(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	var names []types.NamespacedName
	for i := range 100 {
		name := fmt.Sprint("p", i)
		must(here.Create(ctx, newPod(namespace, name)))(t)
		names = append(names, types.NamespacedName{Namespace: namespace, Name: name})
	}
	names = append(names, types.NamespacedName{Namespace: namespace, Name: "none"})
	errs := here.DeleteAll(ctx, podsResource, names, metav1.DeleteOptions{})
	for i, err := range errs[:100] {
		if err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
	wantReason(t, errs[100], metav1.StatusReasonNotFound)
	for obj := range here.View().List(podsResource, namespace) {
		t.Errorf("%s is still there", obj.GetName())
	}
	err := here.Delete(ctx, corev1.Resource("namespaces"), "", "default", metav1.DeleteOptions{})
	wantError(t, err, "this namespace may not be deleted")
}

func TestInProcessDeleteOfANamespaceBeginsItsEnd(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here, gr := one.Local(), corev1.Resource("namespaces")
	if err := here.Delete(ctx, gr, "", namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	obj, ok := here.View().Get(gr, "", namespace)
	if !ok || obj.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		t.Fatal("namespace is not Terminating")
	}
	_, err := here.Modify(ctx, gr, "", namespace, "finalize", func(obj local.Object) error {
		obj.(*corev1.Namespace).Spec.Finalizers = nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := here.View().Get(gr, "", namespace); ok {
		t.Error("finalized namespace is still there")
	}
}

func TestLastFinalizerLetsAnObjectGo(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	here := one.Local()
	must(here.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "held", Finalizers: []string{"example.com/hold"}}}))(t)
	if err := here.Delete(ctx, configMapsResource, namespace, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := here.Modify(ctx, configMapsResource, namespace, "held", "", func(obj local.Object) error {
		obj.SetFinalizers(nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := here.View().Get(configMapsResource, namespace, "held"); ok {
		t.Error("it is still there")
	}
}
