package apiserver_test

import (
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},
	"spec":{"replicas":REPLICAS,"selector":{"matchLabels":{"app":"web"}},
	"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"hello:latest","ports":[{"containerPort":8080}]}]}}}}`

// apply applies the deployment on the server's side as a manager.
func apply(t *testing.T, namespace, manager, replicas string, options metav1.PatchOptions) (*appsv1.Deployment, error) {
	t.Helper()
	options.FieldManager = manager
	return one.AppsV1().Deployments(namespace).Patch(t.Context(), "web", types.ApplyPatchType,
		[]byte(strings.ReplaceAll(deployment, "REPLICAS", replicas)), options)
}

func TestServerSideApplyConflictNamesTheOtherManagerAndTheField(t *testing.T) {
	namespace := one.namespace(t)
	must(apply(t, namespace, "first", "2", metav1.PatchOptions{}))(t)
	_, err := apply(t, namespace, "second", "3", metav1.PatchOptions{})
	wantReason(t, err, metav1.StatusReasonConflict)
	wantError(t, err, `Apply failed with 1 conflict: conflict with "first": .spec.replicas`)

	force := true
	taken := must(apply(t, namespace, "second", "3", metav1.PatchOptions{Force: &force}))(t)
	if got := *taken.Spec.Replicas; got != 3 {
		t.Errorf("got %d replicas after a forced apply, want 3", got)
	}
	for _, entry := range taken.ManagedFields {
		owns := strings.Contains(entry.FieldsV1.String(), `"f:replicas"`)
		if owns != (entry.Manager == "second") {
			t.Errorf("manager %s owns replicas: %t", entry.Manager, owns)
		}
	}
}

func TestScaleThenApplyConflictsWithTheScaleSubresource(t *testing.T) {
	namespace := one.namespace(t)
	must(apply(t, namespace, "first", "2", metav1.PatchOptions{}))(t)
	_, err := one.AppsV1().Deployments(namespace).Patch(t.Context(), "web", types.MergePatchType,
		[]byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "scaler"}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	_, err = apply(t, namespace, "first", "2", metav1.PatchOptions{})
	wantError(t, err, `conflict with "scaler" with subresource "scale"`)
}

func TestApplyOfTheSameManifestWritesNothing(t *testing.T) {
	namespace := one.namespace(t)
	first := must(apply(t, namespace, "m", "2", metav1.PatchOptions{}))(t)
	second := must(apply(t, namespace, "m", "2", metav1.PatchOptions{}))(t)
	if first.ResourceVersion != second.ResourceVersion {
		t.Errorf("got resourceVersion %s, want the old %s", second.ResourceVersion, first.ResourceVersion)
	}
}

func TestDryRunAnswersAndStoresNothing(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	dry := []string{metav1.DryRunAll}
	would := must(apply(t, namespace, "m", "2", metav1.PatchOptions{DryRun: dry}))(t)
	if would.UID == "" || would.Spec.RevisionHistoryLimit == nil {
		t.Error("dry run did not go through defaulting")
	}
	_, err := one.AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)

	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "dry"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80, NodePort: 32001}},
	}}
	must(one.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{DryRun: dry}))(t)
	must(one.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}))(t) // the port is still free
	t.Cleanup(func() { one.removeServices(t, namespace) })
	if err := one.CoreV1().Services(namespace).Delete(ctx, "dry", metav1.DeleteOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	svc.Name = "other"
	_, err = one.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
	wantError(t, err, "provided port is already allocated") // a dry deletion gave nothing back
}

// warnings collects what the server warns of.
type warnings struct {
	mu   sync.Mutex // guards what follows
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func TestUnknownFieldsAreRefusedOrWarnedOf(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	heard := &warnings{}
	config := rest.CopyConfig(one.admin)
	config.WarningHandler = heard
	client := must(kubernetes.NewForConfig(config))(t)
	post := func(validation string) error {
		return client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("configmaps").
			Param("fieldValidation", validation).SetHeader("Content-Type", "application/json").
			Body([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"x-"},"dada":{}}`)).Do(ctx).Error()
	}
	wantError(t, post("Strict"), `strict decoding error: unknown field "dada"`)
	if err := post("Warn"); err != nil {
		t.Error(err)
	}
	if got := strings.Join(heard.text, "\n"); got != `unknown field "dada"` {
		t.Errorf("got warnings %q", got)
	}
	if err := post("Ignore"); err != nil {
		t.Error(err)
	}
}

func TestBrokenManifestsAreRefusedInTheWordsOfKubernetes(t *testing.T) {
	namespace := one.namespace(t)
	tests := []struct{ name, resource, body, want string }{
		{"no containers", "pods", `{"metadata":{"name":"a"},"spec":{}}`,
			`Pod "a" is invalid: spec.containers: Required value`},
		{"no image", "pods", `{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c"}]}}`,
			`spec.containers[0].image: Required value`},
		{"name in capitals", "pods", `{"metadata":{"name":"A"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
			`metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of`},
		{"container name", "pods", `{"metadata":{"name":"a"},"spec":{"containers":[{"name":"C","image":"i"}]}}`,
			`spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of`},
		{"missing class", "pods", `{"metadata":{"name":"a"},"spec":{"runtimeClassName":"none","containers":[{"name":"c","image":"i"}]}}`,
			`pods "a" is forbidden: pod rejected: RuntimeClass "none" not found`},
		{"missing account", "pods", `{"metadata":{"name":"a"},"spec":{"serviceAccountName":"none","containers":[{"name":"c","image":"i"}]}}`,
			`pods "a" is forbidden: error looking up service account ` + namespace + `/none: serviceaccounts "none" not found`},
		{"missing priority", "pods", `{"metadata":{"name":"a"},"spec":{"priorityClassName":"none","containers":[{"name":"c","image":"i"}]}}`,
			`pods "a" is forbidden: no PriorityClass with name none was found`},
		{"port of a service", "services", `{"metadata":{"name":"a"},"spec":{"ports":[{"port":70000}]}}`,
			`Service "a" is invalid: [spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: `},
		{"wrong type", "pods", `{"metadata":{"name":"a"},"spec":{"containers":"c"}}`,
			`Pod in version "v1" cannot be handled as a Pod`},
		{"no json", "pods", `{`, `couldn't get version/kind`},
		{"other kind", "pods", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}`,
			`Service in version "v1" cannot be handled as a Pod`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := one.CoreV1().RESTClient().Post().Namespace(namespace).Resource(test.resource).
				SetHeader("Content-Type", "application/json").Body([]byte(test.body)).Do(t.Context()).Error()
			wantError(t, err, test.want)
		})
	}
}

func TestDeploymentSelectorMustMatchItsTemplate(t *testing.T) {
	namespace := one.namespace(t)
	d := must(apply(t, namespace, "m", "1", metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}))(t)
	d.ResourceVersion, d.UID, d.ManagedFields = "", "", nil
	d.Spec.Template.Labels = map[string]string{"app": "other"}
	_, err := one.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{})
	wantError(t, err, `Deployment.apps "web" is invalid: spec.template.metadata.labels: Invalid value: {"app":"other"}: `+"`selector` does not match template `labels`")
}

func TestHugeManifestIsRefused(t *testing.T) {
	namespace := one.namespace(t)
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"huge"},"data":{"a":"` + strings.Repeat("x", 4<<20) + `"}}`
	err := one.CoreV1().RESTClient().Post().Namespace(namespace).Resource("configmaps").
		SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
	wantReason(t, err, metav1.StatusReasonRequestEntityTooLarge)
}
