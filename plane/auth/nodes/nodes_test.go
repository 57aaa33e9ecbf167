package nodes_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"copepod/plane/auth/nodes"
)

func node(name string) user.Info {
	return &user.DefaultInfo{Name: "system:node:" + name, Groups: []string{user.NodesGroup, user.AllAuthenticated}}
}

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// webPod refers to an object of each kind, in each way that there is.
func webPod(nodeName string) *corev1.Pod {
	env := []corev1.EnvVar{
		{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("env-secret")}}},
		{Name: "B", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("env-config")}}},
		{Name: "C", Value: "plain"},
	}
	volume := func(name string, source corev1.VolumeSource) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: source}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "pod-1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName:           nodeName,
			ServiceAccountName: "web",
			ImagePullSecrets:   []corev1.LocalObjectReference{local("pull")},
			InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("from-secret")}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("from-config")}},
			}}},
			Containers: []corev1.Container{{Env: env}},
			Volumes: []corev1.Volume{
				volume("s", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume-secret"}}),
				volume("c", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("volume-config")}}),
				volume("p", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}),
				volume("scratch", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}),
				volume("token", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{Secret: &corev1.SecretProjection{LocalObjectReference: local("projected-secret")}},
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("projected-config")}},
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}},
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault"}},
				}}}),
			},
		},
	}
}

// request is a question to the authorizer in short.
type request struct {
	verb, group, resource, sub, namespace, name string
	fields                                      string
	path                                        string
}

func (r request) by(u user.Info) authorizer.Attributes {
	a := authorizer.AttributesRecord{
		User: u, Verb: r.verb, APIGroup: r.group, Resource: r.resource, Subresource: r.sub,
		Namespace: r.namespace, Name: r.name, Path: r.path, ResourceRequest: r.path == "",
	}
	if r.fields != "" {
		a.FieldSelectorRequirements = fields.ParseSelectorOrDie(r.fields).Requirements()
	}
	return a
}

func allowed(t testing.TB, a *nodes.Authorizer, attrs authorizer.Attributes) (bool, string) {
	decision, reason, err := a.Authorize(t.Context(), attrs)
	if err != nil || decision == authorizer.DecisionDeny {
		t.Errorf("got decision %v, %v, want allow or no opinion", decision, err)
	}
	return decision == authorizer.DecisionAllow, reason
}

func Example() {
	graph := &nodes.Graph{}
	graph.Set(webPod("n1"))
	authz := nodes.NewAuthorizer(graph)
	secret := request{verb: "get", resource: "secrets", namespace: "team", name: "env-secret"}
	for _, name := range []string{"n1", "n2"} {
		decision, reason, _ := authz.Authorize(context.Background(), secret.by(node(name)))
		fmt.Printf("%s %v %q\n", name, decision == authorizer.DecisionAllow, reason)
	}
	// Output:
	// n1 true ""
	// n2 false "no relationship found between node 'n2' and this object"
}

func TestNodeReachesWhatItsPodsReferToAndNothingElse(t *testing.T) {
	graph := &nodes.Graph{}
	graph.Set(webPod("n1"))
	authz := nodes.NewAuthorizer(graph)
	for _, tt := range []struct {
		resource, name string
		want           bool
	}{
		{"secrets", "env-secret", true},
		{"secrets", "from-secret", true},
		{"secrets", "volume-secret", true},
		{"secrets", "projected-secret", true},
		{"secrets", "pull", true},
		{"secrets", "other", false},
		{"secrets", "env-config", false},
		{"configmaps", "env-config", true},
		{"configmaps", "from-config", true},
		{"configmaps", "volume-config", true},
		{"configmaps", "projected-config", true},
		{"configmaps", "other", false},
		{"persistentvolumeclaims", "claim", true},
		{"persistentvolumeclaims", "web-scratch", true},
		{"persistentvolumeclaims", "other", false},
		{"pods", "web", true},
		{"pods", "other", false},
	} {
		t.Run(tt.resource+" "+tt.name, func(t *testing.T) {
			ask := request{verb: "get", resource: tt.resource, namespace: "team", name: tt.name}
			if got, reason := allowed(t, authz, ask.by(node("n1"))); got != tt.want {
				t.Errorf("own node: got %v (%s), want %v", got, reason, tt.want)
			}
			if got, _ := allowed(t, authz, ask.by(node("n2"))); got {
				t.Error("another node: got it allowed")
			}
			ask.namespace = "elsewhere"
			if got, _ := allowed(t, authz, ask.by(node("n1"))); got {
				t.Error("another namespace: got it allowed")
			}
		})
	}
}

func TestNodeMayDoWhatItsWorkTakes(t *testing.T) {
	graph := &nodes.Graph{}
	graph.Set(webPod("n1"))
	authz := nodes.NewAuthorizer(graph)
	lease := func(verb, ns, name string) request {
		return request{verb: verb, group: "coordination.k8s.io", resource: "leases", namespace: ns, name: name}
	}
	for _, tt := range []struct {
		name string
		ask  request
		want bool
	}{
		{"its pods", request{verb: "watch", resource: "pods", fields: "spec.nodeName=n1"}, true},
		{"another's pods", request{verb: "watch", resource: "pods", fields: "spec.nodeName=n2"}, false},
		{"all but one node's pods", request{verb: "list", resource: "pods", fields: "spec.nodeName!=n1"}, false},
		{"all pods", request{verb: "list", resource: "pods"}, false},
		{"one of its pods by name", request{verb: "watch", resource: "pods", namespace: "team", name: "web"}, true},
		{"log of its pod", request{verb: "get", resource: "pods", sub: "log", namespace: "team", name: "web"}, false},
		{"status of a pod", request{verb: "patch", resource: "pods", sub: "status", namespace: "team", name: "web"}, true},
		{"change of a pod", request{verb: "patch", resource: "pods", namespace: "team", name: "web"}, false},
		{"binding of a pod", request{verb: "create", resource: "pods", sub: "binding", namespace: "team", name: "web"}, false},
		{"eviction of a pod", request{verb: "create", resource: "pods", sub: "eviction", namespace: "team", name: "web"}, true},
		{"delete of a pod", request{verb: "delete", resource: "pods", namespace: "team", name: "web"}, true},
		{"delete of all pods", request{verb: "deletecollection", resource: "pods", namespace: "team"}, false},
		{"its node", request{verb: "get", resource: "nodes", name: "n1"}, true},
		{"another node", request{verb: "get", resource: "nodes", name: "n2"}, true},
		{"all nodes", request{verb: "list", resource: "nodes"}, true},
		{"registering", request{verb: "create", resource: "nodes"}, true},
		{"its status", request{verb: "patch", resource: "nodes", sub: "status", name: "n1"}, true},
		{"delete of a node", request{verb: "delete", resource: "nodes", name: "n1"}, false},
		{"proxy to a node", request{verb: "get", resource: "nodes", sub: "proxy", name: "n1"}, false},
		{"its lease", lease("update", "kube-node-lease", "n1"), true},
		{"another's lease", lease("update", "kube-node-lease", "n2"), false},
		{"the scheduler's lease", lease("update", "kube-system", "kube-scheduler"), false},
		{"all leases", lease("list", "kube-node-lease", ""), false},
		{"all secrets of a namespace", request{verb: "list", resource: "secrets", namespace: "team"}, false},
		{"one secret by watch", request{verb: "watch", resource: "secrets", namespace: "team", name: "pull"}, true},
		{"change of its secret", request{verb: "update", resource: "secrets", namespace: "team", name: "pull"}, false},
		{"token of its pod's account", request{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "team", name: "web"}, true},
		{"token of another account", request{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "team", name: "admin"}, false},
		{"its pod's account", request{verb: "get", resource: "serviceaccounts", namespace: "team", name: "web"}, false},
		{"claim by list", request{verb: "list", resource: "persistentvolumeclaims", namespace: "team", name: "claim"}, false},
		{"services", request{verb: "watch", resource: "services"}, true},
		{"endpoint slices", request{verb: "watch", group: "discovery.k8s.io", resource: "endpointslices"}, true},
		{"runtime classes", request{verb: "list", group: "node.k8s.io", resource: "runtimeclasses"}, true},
		{"events", request{verb: "create", resource: "events", namespace: "team"}, true},
		{"deployments", request{verb: "list", group: "apps", resource: "deployments"}, false},
		{"cluster roles", request{verb: "list", group: "rbac.authorization.k8s.io", resource: "clusterroles"}, false},
		{"metrics of the API server", request{verb: "get", path: "/metrics"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, reason := allowed(t, authz, tt.ask.by(node("n1"))); got != tt.want {
				t.Errorf("got %v (%s), want %v", got, reason, tt.want)
			}
		})
	}
}

func TestOnlyNameAndGroupTogetherMakeANode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		user   user.Info
		node   string
		isNode bool
	}{
		{"node", node("n1"), "n1", true},
		{"without the group", &user.DefaultInfo{Name: "system:node:n1"}, "", false},
		{"without the name", &user.DefaultInfo{Name: "n1", Groups: []string{user.NodesGroup}}, "", false},
		{"nobody", nil, "", false},
	} {
		if got, ok := nodes.Identify(tt.user); got != tt.node || ok != tt.isNode {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.name, got, ok, tt.node, tt.isNode)
		}
	}
	authz := nodes.NewAuthorizer(&nodes.Graph{})
	ok, reason := allowed(t, authz, request{verb: "list", resource: "services"}.by(node("")))
	if want := `unknown node for user "system:node:"`; ok || reason != want {
		t.Errorf("a node without a name: got %v, %q, want %q", ok, reason, want)
	}
}

func TestGraphFollowsPodsAsTheyChange(t *testing.T) {
	graph := &nodes.Graph{}
	reaches := func(node string) bool { return graph.Reaches(node, "secrets", "team", "pull") }
	first, second := webPod("n1"), webPod("n1")
	second.Name = "web-2"
	graph.Set(webPod(""))
	if reaches("") || reaches("n1") {
		t.Error("a pod without a node opened something")
	}
	graph.Set(first)
	graph.Set(first) // watches repeat themselves
	graph.Set(second)
	graph.Delete("team", "web")
	if !reaches("n1") {
		t.Error("the second pod still refers to the secret, got it unreachable")
	}
	changed := webPod("n1")
	changed.Name, changed.Spec.ImagePullSecrets = "web-2", nil
	graph.Set(changed)
	if reaches("n1") || !graph.Reaches("n1", "secrets", "team", "env-secret") {
		t.Error("after the pod let go of one secret: got the wrong ones reachable")
	}
	graph.Delete("team", "web-2")
	graph.Delete("team", "web-2")
	if graph.Reaches("n1", "secrets", "team", "env-secret") {
		t.Error("after all pods are gone: got a secret reachable")
	}
	graph.Set(first)
	if !reaches("n1") {
		t.Error("after a pod came back: got its secret unreachable")
	}
}

func TestMirrorPodsOpenNothing(t *testing.T) {
	pod := webPod("n1")
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	graph := &nodes.Graph{}
	graph.Set(pod)
	if !graph.Reaches("n1", "pods", "team", "web") || graph.Reaches("n1", "secrets", "team", "pull") {
		t.Error("got the pod unreachable, or its secret reachable")
	}
}

// world is what Restriction looks objects up in.
type world struct{ pods []*corev1.Pod }

func (w world) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	for _, p := range w.pods {
		if p.Namespace == namespace && p.Name == name {
			return p, nil
		}
	}
	return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
}

func (w world) Node(_ context.Context, name string) (*corev1.Node, error) {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}, nil
}

func BenchmarkGraphSet(b *testing.B) {
	graph := &nodes.Graph{}
	pod := webPod("n1")
	for i := 0; b.Loop(); i++ {
		pod.Name = fmt.Sprint("web-", i%10000)
		graph.Set(pod)
	}
}

func BenchmarkAuthorizeSecret(b *testing.B) {
	graph := &nodes.Graph{}
	for i := range 10000 {
		pod := webPod("n1")
		pod.Name = fmt.Sprint("web-", i)
		graph.Set(pod)
	}
	authz := nodes.NewAuthorizer(graph)
	attrs := request{verb: "get", resource: "secrets", namespace: "team", name: "pull"}.by(node("n1"))
	for b.Loop() {
		if d, _, _ := authz.Authorize(b.Context(), attrs); d != authorizer.DecisionAllow {
			b.Fatal("not allowed")
		}
	}
}
