//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package validation_test

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"copepod/plane/apiserver/defaults"
	"copepod/plane/apiserver/validation"
)

// minimal has the least that each kind takes.
var minimal = []struct {
	kind schema.GroupKind
	zero runtime.Object
	json string
}{
	{gk("", "Binding"), &corev1.Binding{}, `{"metadata":{"name":"a","namespace":"ns"},"target":{"name":"n1"}}`},
	{gk("", "ConfigMap"), &corev1.ConfigMap{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("", "Endpoints"), &corev1.Endpoints{}, `{"metadata":{"name":"a","namespace":"ns"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}`},
	{gk("", "Event"), &corev1.Event{}, `{"metadata":{"name":"a","namespace":"ns"},"involvedObject":{"kind":"Pod","namespace":"ns","name":"p"}}`},
	{gk("", "Namespace"), &corev1.Namespace{}, `{"metadata":{"name":"a"}}`},
	{gk("", "Node"), &corev1.Node{}, `{"metadata":{"name":"a"}}`},
	{gk("", "Pod"), &corev1.Pod{}, `{"metadata":{"name":"a","namespace":"ns"},"spec":{"containers":[{"name":"web","image":"web"}]}}`},
	{gk("", "Secret"), &corev1.Secret{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("", "Service"), &corev1.Service{}, `{"metadata":{"name":"a","namespace":"ns"},"spec":{"ports":[{"port":80}]}}`},
	{gk("", "ServiceAccount"), &corev1.ServiceAccount{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("apps", "Deployment"), &appsv1.Deployment{}, `{"metadata":{"name":"a","namespace":"ns"},"spec":{"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"web","image":"web"}]}}}}`},
	{gk("apps", "ReplicaSet"), &appsv1.ReplicaSet{}, `{"metadata":{"name":"a","namespace":"ns"},"spec":{"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"web","image":"web"}]}}}}`},
	{gk("autoscaling", "Scale"), &autoscalingv1.Scale{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("policy", "Eviction"), &policyv1.Eviction{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("coordination.k8s.io", "Lease"), &coordinationv1.Lease{}, `{"metadata":{"name":"a","namespace":"ns"}}`},
	{gk("discovery.k8s.io", "EndpointSlice"), &discoveryv1.EndpointSlice{}, `{"metadata":{"name":"a","namespace":"ns"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":80}]}`},
	{gk("events.k8s.io", "Event"), &eventsv1.Event{}, `{"metadata":{"name":"a","namespace":"ns"},"eventTime":"2026-01-02T03:04:05.000000Z","reportingController":"c","reportingInstance":"i","action":"a","reason":"r","type":"Normal","regarding":{"namespace":"ns"}}`},
	{gk("node.k8s.io", "RuntimeClass"), &nodev1.RuntimeClass{}, `{"metadata":{"name":"a"},"handler":"wasm"}`},
	{gk("scheduling.k8s.io", "PriorityClass"), &schedulingv1.PriorityClass{}, `{"metadata":{"name":"a"},"value":1}`},
	{gk(rbacv1.GroupName, "ClusterRole"), &rbacv1.ClusterRole{}, `{"metadata":{"name":"system:a"},"rules":[{"verbs":["get"],"nonResourceURLs":["/healthz"]}]}`},
	{gk(rbacv1.GroupName, "ClusterRoleBinding"), &rbacv1.ClusterRoleBinding{}, `{"metadata":{"name":"a"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"Group","name":"g"}]}`},
	{gk(rbacv1.GroupName, "Role"), &rbacv1.Role{}, `{"metadata":{"name":"a","namespace":"ns"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`},
	{gk(rbacv1.GroupName, "RoleBinding"), &rbacv1.RoleBinding{}, `{"metadata":{"name":"a","namespace":"ns"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"ServiceAccount","name":"s"}]}`},
	{gk("authentication.k8s.io", "SelfSubjectReview"), &authenticationv1.SelfSubjectReview{}, `{}`},
	{gk("authentication.k8s.io", "TokenRequest"), &authenticationv1.TokenRequest{}, `{}`},
	{gk("authentication.k8s.io", "TokenReview"), &authenticationv1.TokenReview{}, `{"spec":{"token":"t"}}`},
	{gk("authorization.k8s.io", "LocalSubjectAccessReview"), &authorizationv1.LocalSubjectAccessReview{}, `{"metadata":{"namespace":"ns"},"spec":{"user":"u","resourceAttributes":{"namespace":"ns"}}}`},
	{gk("authorization.k8s.io", "SelfSubjectAccessReview"), &authorizationv1.SelfSubjectAccessReview{}, `{"spec":{"nonResourceAttributes":{"path":"/"}}}`},
	{gk("authorization.k8s.io", "SelfSubjectRulesReview"), &authorizationv1.SelfSubjectRulesReview{}, `{}`},
	{gk("authorization.k8s.io", "SubjectAccessReview"), &authorizationv1.SubjectAccessReview{}, `{"spec":{"groups":["g"],"resourceAttributes":{}}}`},
}

func gk(group, kind string) schema.GroupKind { return schema.GroupKind{Group: group, Kind: kind} }

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, rbacv1.AddToScheme, schedulingv1.AddToScheme, authenticationv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	defaults.Register(s)
	return s
}()

// valid gives the minimal object of a kind, defaulted.
func valid[T runtime.Object](t testing.TB, kind schema.GroupKind) T {
	t.Helper()
	for _, m := range minimal {
		if m.kind != kind {
			continue
		}
		obj := m.zero.DeepCopyObject()
		if err := json.Unmarshal([]byte(m.json), obj); err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		scheme.Default(obj)
		return obj.(T)
	}
	t.Fatalf("%v: no minimal object", kind)
	panic("unreachable")
}

// stored gives the minimal object as it would be after it was stored.
func stored[T interface {
	runtime.Object
	SetResourceVersion(string)
}](t testing.TB, kind schema.GroupKind) T {
	obj := valid[T](t, kind)
	obj.SetResourceVersion("1")
	return obj
}

func rulesOf(t testing.TB, kind schema.GroupKind) validation.Rules {
	t.Helper()
	r, ok := validation.For(kind)
	if !ok {
		t.Fatalf("%v: no rules", kind)
	}
	return r
}

func textOf(errs field.ErrorList) string {
	var lines []string
	for _, err := range errs {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "\n")
}

// creates is a table of edits to a valid object and what is said of the result.
type creates[T runtime.Object] []struct {
	name string
	edit func(T)
	want string // errors, one a line; "" if it stays valid
}

func (rows creates[T]) run(t *testing.T, kind schema.GroupKind) {
	t.Helper()
	rules := rulesOf(t, kind)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			obj := valid[T](t, kind)
			row.edit(obj)
			before := obj.DeepCopyObject()
			if got := textOf(rules.Create(obj)); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
			if got, want := toJSON(t, obj), toJSON(t, before); got != want {
				t.Errorf("the object was changed: got %s, want %s", got, want)
			}
		})
	}
}

// updates is a table of changes to a stored object.
type updates[T runtime.Object] []struct {
	name string
	old  func(T) // what it was, other than minimal; nil for nothing
	edit func(T)
	want string
}

func runUpdates[T interface {
	runtime.Object
	SetResourceVersion(string)
}](t *testing.T, kind schema.GroupKind, judge func(validation.Rules) func(obj, old runtime.Object) field.ErrorList, rows updates[T]) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			old := stored[T](t, kind)
			if row.old != nil {
				row.old(old)
				scheme.Default(old)
			}
			obj := old.DeepCopyObject().(T)
			row.edit(obj)
			if got := textOf(judge(rulesOf(t, kind))(obj, old)); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func update(r validation.Rules) func(obj, old runtime.Object) field.ErrorList { return r.Update }

func updateStatus(r validation.Rules) func(obj, old runtime.Object) field.ErrorList {
	return r.UpdateStatus
}

func toJSON(t *testing.T, obj any) string {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheMinimalObjectOfEachKindIsValid(t *testing.T) {
	for _, m := range minimal {
		t.Run(m.kind.String(), func(t *testing.T) {
			rules := rulesOf(t, m.kind)
			obj := valid[runtime.Object](t, m.kind)
			if got := textOf(rules.Create(obj)); got != "" {
				t.Errorf("create: got %s, want no errors", got)
			}
			if got := rules.Warnings(obj, nil); len(got) > 0 {
				t.Errorf("create: got warnings %q, want none", got)
			}
			if strings.HasSuffix(m.kind.Kind, "Review") {
				return // answered, not stored
			}
			obj.(metav1.Object).SetResourceVersion("1")
			if got := textOf(rules.Update(obj, obj)); got != "" {
				t.Errorf("update: got %s, want no errors", got)
			}
			if got := textOf(rules.UpdateStatus(obj, obj)); got != "" {
				t.Errorf("status: got %s, want no errors", got)
			}
		})
	}
}
