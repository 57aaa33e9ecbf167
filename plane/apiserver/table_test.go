package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// table asks for a resource as `kubectl get` does.
func table(t *testing.T, path string) *metav1.Table {
	t.Helper()
	out := &metav1.Table{}
	err := one.CoreV1().RESTClient().Get().AbsPath(path).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").Do(t.Context()).Into(out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTablesHaveTheColumnsOfKubectl(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	got := table(t, "/api/v1/namespaces/"+namespace+"/pods")
	var names []string
	for _, c := range got.ColumnDefinitions {
		names = append(names, c.Name)
	}
	if want := "Name Ready Status Restarts Age IP Node Nominated Node Readiness Gates"; strings.Join(names, " ") != want {
		t.Errorf("got columns %q, want %s", names, want)
	}
	if len(got.Rows) != 1 || fmt.Sprint(got.Rows[0].Cells[:4]) != "[p 0/1 Pending 0]" {
		t.Errorf("got rows %+v", got.Rows)
	}
	if got.ResourceVersion == "" {
		t.Error("table has no resourceVersion to watch from")
	}
	if single := table(t, "/api/v1/namespaces/"+namespace+"/pods/p"); len(single.Rows) != 1 {
		t.Errorf("got %d rows for one pod", len(single.Rows))
	}
}

func TestListsComeInPages(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	for i := range 5 {
		must(one.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}, metav1.CreateOptions{}))(t)
	}
	var names []string
	options := metav1.ListOptions{Limit: 2}
	for {
		page := must(one.CoreV1().ConfigMaps(namespace).List(ctx, options))(t)
		for _, cm := range page.Items {
			names = append(names, cm.Name)
		}
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "c0 c1 c2 c3 c4" {
		t.Errorf("got %s", got)
	}
}

func TestFieldSelectorsFindObjects(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	boundPod(t, namespace, "bound")
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "free"), metav1.CreateOptions{}))(t)
	for selector, want := range map[string]string{
		"spec.nodeName=node-1":  "bound",
		"spec.nodeName=":        "free",
		"status.phase!=Running": "bound free",
		"metadata.name=free":    "free",
	} {
		list := must(one.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: selector}))(t)
		var names []string
		for _, pod := range list.Items {
			names = append(names, pod.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %q, want %q", selector, got, want)
		}
	}
	_, err := one.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.colour=red"})
	wantError(t, err, "field label not supported: spec.colour")
}

func TestEventsAreTheSameInBothGroups(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	old := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: "old"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "p"},
		Reason:         "Started", Message: "it did", Type: corev1.EventTypeNormal, Count: 3,
	}
	must(one.CoreV1().Events(namespace).Create(ctx, old, metav1.CreateOptions{}))(t)
	seen := must(one.EventsV1().Events(namespace).Get(ctx, "old", metav1.GetOptions{}))(t)
	if seen.Note != "it did" || seen.Regarding.Name != "p" || seen.DeprecatedCount != 3 {
		t.Errorf("got %+v in events.k8s.io", seen)
	}
	fresh := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fresh"},
		Regarding:  corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "p"},
		EventTime:  metav1.NowMicro(), ReportingController: "example.com/tester", ReportingInstance: "one",
		Action: "Test", Reason: "Tested", Note: "it was", Type: corev1.EventTypeNormal,
	}
	must(one.EventsV1().Events(namespace).Create(ctx, fresh, metav1.CreateOptions{}))(t)
	found := must(one.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=p,reason=Tested"}))(t)
	if len(found.Items) != 1 || found.Items[0].Message != "it was" {
		t.Errorf("got %+v in core", found.Items)
	}
	listed := must(one.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=p"}))(t)
	if len(listed.Items) != 2 {
		t.Errorf("got %d events in events.k8s.io, want 2", len(listed.Items))
	}
	fresh.Name, fresh.Action = "silent", ""
	_, err := one.EventsV1().Events(namespace).Create(ctx, fresh, metav1.CreateOptions{})
	wantError(t, err, "action: Required value") // core/v1 would take it
}

func TestScaleReadsAndWritesReplicas(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(apply(t, namespace, "m", "2", metav1.PatchOptions{}))(t)
	deployments := one.AppsV1().Deployments(namespace)
	scale := must(deployments.GetScale(ctx, "web", metav1.GetOptions{}))(t)
	if scale.Spec.Replicas != 2 || scale.Status.Selector != "app=web" {
		t.Errorf("got scale %+v", scale)
	}
	scale.Spec.Replicas = 4
	scale = must(deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}))(t)
	d := must(deployments.Get(ctx, "web", metav1.GetOptions{}))(t)
	if *d.Spec.Replicas != 4 || d.Generation != 2 || d.ResourceVersion != scale.ResourceVersion {
		t.Errorf("got %d replicas, generation %d", *d.Spec.Replicas, d.Generation)
	}
	scale.Spec.Replicas = -1
	_, err := deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
	wantError(t, err, `Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`)
	scale.Spec.Replicas, scale.ResourceVersion = 5, "1"
	_, err = deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
	wantReason(t, err, metav1.StatusReasonConflict)
	_, err = deployments.GetScale(ctx, "none", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestGenerationCountsChangesOfTheSpec(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(apply(t, namespace, "m", "2", metav1.PatchOptions{}))(t)
	deployments := one.AppsV1().Deployments(namespace)
	for _, step := range []struct {
		name, patch, subresource string
		want                     int64
	}{
		{"label", `{"metadata":{"labels":{"a":"b"}}}`, "", 1},
		{"annotation", `{"metadata":{"annotations":{"a":"b"}}}`, "", 2},
		{"replicas", `{"spec":{"replicas":9}}`, "", 3},
		{"same replicas", `{"spec":{"replicas":9}}`, "", 3},
		{"status", `{"status":{"replicas":9}}`, "status", 3},
	} {
		var sub []string
		if step.subresource != "" {
			sub = append(sub, step.subresource)
		}
		d := must(deployments.Patch(ctx, "web", types.MergePatchType, []byte(step.patch), metav1.PatchOptions{}, sub...))(t)
		if d.Generation != step.want {
			t.Errorf("%s: got generation %d, want %d", step.name, d.Generation, step.want)
		}
	}
}
