package apiserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// manifests has one small object of every kind that is stored. Namespaces are
// filled in by the test.
var manifests = map[string]string{
	"v1/namespaces":                                    `{"kind":"Namespace"}`,
	"v1/nodes":                                         `{"kind":"Node","status":{"capacity":{"cpu":"2"}}}`,
	"v1/pods":                                          `{"kind":"Pod","spec":{"containers":[{"name":"main","image":"hello"}]}}`,
	"v1/services":                                      `{"kind":"Service","spec":{"ports":[{"port":80}]}}`,
	"v1/endpoints":                                     `{"kind":"Endpoints","subsets":[{"addresses":[{"ip":"10.1.2.3"}],"ports":[{"port":80}]}]}`,
	"v1/configmaps":                                    `{"kind":"ConfigMap","data":{"a":"b"}}`,
	"v1/secrets":                                       `{"kind":"Secret","stringData":{"a":"b"}}`,
	"v1/serviceaccounts":                               `{"kind":"ServiceAccount"}`,
	"v1/events":                                        `{"kind":"Event","involvedObject":{"kind":"Pod","name":"x","namespace":"NAMESPACE"},"reason":"Tested","message":"it was","type":"Normal"}`,
	"apps/v1/deployments":                              `{"kind":"Deployment","spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"main","image":"hello"}]}}}}`,
	"apps/v1/replicasets":                              `{"kind":"ReplicaSet","spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"main","image":"hello"}]}}}}`,
	"coordination.k8s.io/v1/leases":                    `{"kind":"Lease","spec":{"holderIdentity":"me"}}`,
	"discovery.k8s.io/v1/endpointslices":               `{"kind":"EndpointSlice","addressType":"IPv4","endpoints":[{"addresses":["10.1.2.3"]}]}`,
	"events.k8s.io/v1/events":                          `{"kind":"Event","regarding":{"kind":"Pod","name":"x","namespace":"NAMESPACE"},"reason":"Tested","note":"it was","type":"Normal","action":"Test","eventTime":"2026-01-01T00:00:00.000000Z","reportingController":"tester.example.com/unit","reportingInstance":"one"}`,
	"node.k8s.io/v1/runtimeclasses":                    `{"kind":"RuntimeClass","handler":"wasm"}`,
	"scheduling.k8s.io/v1/priorityclasses":             `{"kind":"PriorityClass","value":7}`,
	"rbac.authorization.k8s.io/v1/clusterroles":        `{"kind":"ClusterRole","rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`,
	"rbac.authorization.k8s.io/v1/roles":               `{"kind":"Role","rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`,
	"rbac.authorization.k8s.io/v1/rolebindings":        `{"kind":"RoleBinding","roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"jane"}]}`,
	"rbac.authorization.k8s.io/v1/clusterrolebindings": `{"kind":"ClusterRoleBinding","roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"jane"}]}`,
}

var clusterScoped = map[string]bool{
	"namespaces": true, "nodes": true, "runtimeclasses": true, "priorityclasses": true, "clusterroles": true, "clusterrolebindings": true,
}

// manifest gives the object of a kind, its resource and a client for it.
func manifest(t *testing.T, path, namespace, name string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
	t.Helper()
	version, plural := path[:strings.LastIndexByte(path, '/')], path[strings.LastIndexByte(path, '/')+1:]
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(manifests[path], "NAMESPACE", namespace)), &obj.Object); err != nil {
		t.Fatal(err)
	}
	obj.SetAPIVersion(version)
	obj.SetName(name)
	if clusterScoped[plural] {
		return one.dynamic.Resource(gv.WithResource(plural)), obj
	}
	obj.SetNamespace(namespace)
	return one.dynamic.Resource(gv.WithResource(plural)).Namespace(namespace), obj
}

func TestEveryKindIsCreatedReadChangedListedAndDeleted(t *testing.T) {
	for path := range manifests {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			namespace := one.namespace(t)
			client, obj := manifest(t, path, namespace, "every-"+namespace)
			created := must(client.Create(ctx, obj, metav1.CreateOptions{}))(t)
			if created.GetUID() == "" || created.GetResourceVersion() == "" || created.GetCreationTimestamp().Time.IsZero() {
				t.Errorf("created object has no identity: %v", created.Object["metadata"])
			}
			read := must(client.Get(ctx, obj.GetName(), metav1.GetOptions{}))(t)
			if diff := cmp.Diff(created.Object, read.Object); diff != "" {
				t.Errorf("read back differently (-created +read):\n%s", diff)
			}
			patched := must(client.Patch(ctx, obj.GetName(), types.MergePatchType, []byte(`{"metadata":{"labels":{"touched":"yes"}}}`), metav1.PatchOptions{}))(t)
			if patched.GetLabels()["touched"] != "yes" || patched.GetResourceVersion() == created.GetResourceVersion() {
				t.Errorf("patch did nothing: %v", patched.Object["metadata"])
			}
			_, err := client.Update(ctx, created, metav1.UpdateOptions{})
			wantReason(t, err, metav1.StatusReasonConflict)
			list := must(client.List(ctx, metav1.ListOptions{LabelSelector: "touched=yes", FieldSelector: "metadata.name=" + obj.GetName()}))(t)
			if len(list.Items) != 1 || list.Items[0].GetUID() != created.GetUID() {
				t.Errorf("got %d items in the list, want the one", len(list.Items))
			}
			if err := client.Delete(ctx, obj.GetName(), metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
			if path == "v1/namespaces" { // leaves by way of its finalizer
				return
			}
			_, err = client.Get(ctx, obj.GetName(), metav1.GetOptions{})
			wantReason(t, err, metav1.StatusReasonNotFound)
		})
	}
}

func TestDiscoveryShowsEveryResourceWithItsVerbs(t *testing.T) {
	_, lists, err := one.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	verbs := map[string]string{}
	for _, list := range lists {
		for _, r := range list.APIResources {
			verbs[list.GroupVersion+"/"+r.Name] = strings.Join(r.Verbs, " ")
		}
	}
	all := "create delete deletecollection get list patch update watch"
	for path := range manifests {
		want := all
		if path == "v1/namespaces" {
			want = "create delete get list patch update watch"
		}
		if got := verbs[path]; got != want {
			t.Errorf("%s: got verbs %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"v1/pods/status":                                    "get patch update",
		"v1/pods/log":                                       "get",
		"v1/pods/binding":                                   "create",
		"v1/pods/eviction":                                  "create",
		"v1/pods/exec":                                      "create get",
		"v1/bindings":                                       "create",
		"v1/nodes/status":                                   "get patch update",
		"v1/services/status":                                "get patch update",
		"v1/namespaces/status":                              "get patch update",
		"v1/namespaces/finalize":                            "update",
		"v1/serviceaccounts/token":                          "create",
		"apps/v1/deployments/scale":                         "get patch update",
		"apps/v1/replicasets/scale":                         "get patch update",
		"authentication.k8s.io/v1/tokenreviews":             "create",
		"authentication.k8s.io/v1/selfsubjectreviews":       "create",
		"authorization.k8s.io/v1/selfsubjectaccessreviews":  "create",
		"authorization.k8s.io/v1/subjectaccessreviews":      "create",
		"authorization.k8s.io/v1/localsubjectaccessreviews": "create",
		"authorization.k8s.io/v1/selfsubjectrulesreviews":   "create",
	} {
		if got := verbs[path]; got != want {
			t.Errorf("%s: got verbs %q, want %q", path, got, want)
		}
	}
}

func TestOpenAPIDescribesPodsInBothVersions(t *testing.T) {
	v2 := must(one.Discovery().OpenAPISchema())(t)
	found := false
	for _, d := range v2.GetDefinitions().GetAdditionalProperties() {
		found = found || d.GetName() == "io.k8s.api.core.v1.Pod"
	}
	if !found {
		t.Error("OpenAPI v2 has no definition io.k8s.api.core.v1.Pod")
	}
	v3 := must(one.Discovery().OpenAPIV3().Paths())(t)
	apps, ok := v3["apis/apps/v1"]
	if !ok {
		t.Fatalf("OpenAPI v3 has no apis/apps/v1, only %d paths", len(v3))
	}
	if doc := must(apps.Schema("application/json"))(t); !strings.Contains(string(doc), "io.k8s.api.apps.v1.Deployment") {
		t.Error("OpenAPI v3 of apps/v1 does not describe Deployment")
	}
}

func TestVersionParsesAsKubernetes137(t *testing.T) {
	v := must(one.Discovery().ServerVersion())(t)
	if v.Major != "1" || v.Minor != "37" || !strings.HasPrefix(v.GitVersion, "v1.37.") || !strings.Contains(v.GitVersion, "+copepod-") {
		t.Errorf("got version %+v, want v1.37.x+copepod-…", v)
	}
}
