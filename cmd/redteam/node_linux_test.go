package redteam

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"copepod/plane"
	"copepod/plane/auth/certs"
	"copepod/plane/enroll"
)

// pairOf is what a machine that joined shows as a client: the attacker stole it.
func pairOf(t *testing.T, dir string) certs.Pair {
	t.Helper()
	m, err := enroll.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := m.ClientPair()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func clientOf(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// namespace makes one for a test.
func namespace(t *testing.T, name string) string {
	t.Helper()
	create(t, victim.client.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	t.Cleanup(func() {
		_ = victim.client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	return name
}

func create[T any](t *testing.T, do func(context.Context, T, metav1.CreateOptions) (T, error), obj T) T {
	t.Helper()
	got, err := do(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// pod is one on a node that has a secret and an account.
func pod(t *testing.T, namespace, name, node, secret, account string) *corev1.Pod {
	t.Helper()
	create(t, victim.client.CoreV1().Secrets(namespace).Create, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret}, StringData: map[string]string{"k": "v"}})
	create(t, victim.client.CoreV1().ServiceAccounts(namespace).Create, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}})
	return create(t, victim.client.CoreV1().Pods(namespace).Create, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: account,
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
			}}}},
			Containers: []corev1.Container{{Name: "c", Image: "nowhere.invalid/none:v1", EnvFrom: []corev1.EnvFromSource{{
				SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: secret}},
			}}}},
		},
	})
}

func merge(text string) (types.PatchType, []byte, metav1.PatchOptions) {
	return types.MergePatchType, []byte(text), metav1.PatchOptions{}
}

func TestStolenNodeCertificateIsGoodForThatNodesPodsAlone(t *testing.T) {
	w := newWitness(t)
	ns := namespace(t, "two-nodes")
	theirs := pod(t, ns, "theirs", "n1", "their-secret", "their-account")
	mine := pod(t, ns, "mine", "n3", "my-secret", "my-account")
	c := clientOf(t, victim.as(victim.n1, pairOf(t, victim.n3.dir)))
	core, ctx := c.CoreV1(), t.Context()

	// What is its own it gets, or the refusals below would prove nothing.
	if _, err := core.Secrets(ns).Get(ctx, "my-secret", metav1.GetOptions{}); err != nil {
		t.Errorf("secret of its own pod: %v", err)
	}
	bound := func(pod *corev1.Pod) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		}}
	}
	if _, err := core.ServiceAccounts(ns).CreateToken(ctx, "my-account", bound(mine), metav1.CreateOptions{}); err != nil {
		t.Errorf("token of its own pod: %v", err)
	}
	yes := true
	mirror := func(node string, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "mirror", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: w.before.nodes[node], Controller: &yes}},
			},
			Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}
		change(p)
		return p
	}
	get := func(path string) func() error {
		return func() error { return c.RESTClient().Get().AbsPath(path).Do(ctx).Error() }
	}
	refused, from := 0, victim.n1.forbidden(t)
	for _, row := range []struct {
		what string
		do   func() error
	}{
		{"a pod elsewhere", func() error { _, err := core.Pods(ns).Get(ctx, "theirs", metav1.GetOptions{}); return err }},
		{"all pods", func() error { _, err := core.Pods("").List(ctx, metav1.ListOptions{}); return err }},
		{"pods of another node", func() error {
			_, err := core.Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
			return err
		}},
		{"status of a pod elsewhere", func() error {
			kind, data, opts := merge(`{"status":{"phase":"Failed"}}`)
			_, err := core.Pods(ns).Patch(ctx, "theirs", kind, data, opts, "status")
			return err
		}},
		{"a pod of another, made its own", func() error {
			return core.Pods(ns).Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n3"}}, metav1.CreateOptions{})
		}},
		{"the end of a pod elsewhere", func() error { return core.Pods(ns).Delete(ctx, "theirs", metav1.DeleteOptions{}) }},
		{"the eviction of a pod elsewhere", func() error {
			return core.Pods(ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Namespace: ns}})
		}},
		{"the end of all pods", func() error {
			return core.Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}},
		{"a pod of its own making", func() error {
			_, err := core.Pods(ns).Create(ctx, mirror("n3", func(p *corev1.Pod) { p.Annotations = nil }), metav1.CreateOptions{})
			return err
		}},
		{"a mirror pod elsewhere", func() error {
			_, err := core.Pods(ns).Create(ctx, mirror("n1", func(*corev1.Pod) {}), metav1.CreateOptions{})
			return err
		}},
		{"a mirror pod that refers to a secret", func() error {
			_, err := core.Pods(ns).Create(ctx, mirror("n3", func(p *corev1.Pod) {
				p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "their-secret"}}
			}), metav1.CreateOptions{})
			return err
		}},
		{"a mirror pod with an account", func() error {
			_, err := core.Pods(ns).Create(ctx, mirror("n3", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "their-account" }), metav1.CreateOptions{})
			return err
		}},
		{"a secret of a pod elsewhere", func() error {
			_, err := core.Secrets(ns).Get(ctx, "their-secret", metav1.GetOptions{})
			return err
		}},
		{"all secrets of a namespace", func() error { _, err := core.Secrets(ns).List(ctx, metav1.ListOptions{}); return err }},
		{"all secrets, watched", func() error { _, err := core.Secrets("").Watch(ctx, metav1.ListOptions{}); return err }},
		{"its pod's secret, changed", func() error {
			kind, data, opts := merge(`{"data":{"k":"eA=="}}`)
			_, err := core.Secrets(ns).Patch(ctx, "my-secret", kind, data, opts)
			return err
		}},
		{"join tokens and identities", func() error {
			_, err := core.Secrets(enroll.Namespace).List(ctx, metav1.ListOptions{})
			return err
		}},
		{"another's identity", func() error {
			_, err := core.Secrets(enroll.Namespace).Get(ctx, enroll.IdentityPrefix+"n2", metav1.GetOptions{})
			return err
		}},
		{"its own identity, made a plane's", func() error {
			kind, data, opts := merge(`{"stringData":{"identity":"{}"}}`)
			_, err := core.Secrets(enroll.Namespace).Patch(ctx, enroll.IdentityPrefix+"n3", kind, data, opts)
			return err
		}},
		{"gossip keys, changed", func() error {
			kind, data, opts := merge(`{"data":null}`)
			_, err := core.Secrets(enroll.Namespace).Patch(ctx, enroll.KeysName, kind, data, opts)
			return err
		}},
		{"the list of revoked machines, changed", func() error {
			_, err := core.ConfigMaps(enroll.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: enroll.RevokedName}}, metav1.CreateOptions{})
			return err
		}},
		{"a lease of another node", func() error {
			kind, data, opts := merge(`{"spec":{"renewTime":"2020-01-01T00:00:00.000000Z"}}`)
			_, err := c.CoordinationV1().Leases("kube-node-lease").Patch(ctx, "n1", kind, data, opts)
			return err
		}},
		{"a lease under another's name", func() error {
			_, err := c.CoordinationV1().Leases("kube-node-lease").Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n9"}}, metav1.CreateOptions{})
			return err
		}},
		{"status of another node", func() error {
			kind, data, opts := merge(`{"status":{"conditions":[]}}`)
			_, err := core.Nodes().Patch(ctx, "n1", kind, data, opts, "status")
			return err
		}},
		{"another node, removed", func() error { return core.Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}) }},
		{"a node of another name", func() error {
			_, err := core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n9"}}, metav1.CreateOptions{})
			return err
		}},
		{"the label of a plane", own(ctx, c, `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)},
		{"the label that admits secret workloads", own(ctx, c, `{"metadata":{"labels":{"node-restriction.kubernetes.io/trusted":"yes"}}}`)},
		{"the label that an operator keeps voters by", own(ctx, c, `{"metadata":{"labels":{"copepod.dev/plane-eligible":"true"}}}`)},
		{"the annotation of a voter", own(ctx, c, `{"metadata":{"annotations":{"copepod.dev/raft":"voter"}}}`)},
		{"a taint", own(ctx, c, `{"spec":{"taints":[{"key":"x","effect":"NoSchedule"}]}}`)},
		{"addresses of another node's pods", own(ctx, c, `{"spec":{"podCIDR":"10.64.0.0/16","podCIDRs":["10.64.0.0/16"]}}`)},
		{"a token of an account elsewhere", func() error {
			_, err := core.ServiceAccounts(ns).CreateToken(ctx, "their-account", bound(theirs), metav1.CreateOptions{})
			return err
		}},
		{"a token that is bound to a pod elsewhere", func() error {
			_, err := core.ServiceAccounts(ns).CreateToken(ctx, "my-account", bound(theirs), metav1.CreateOptions{})
			return err
		}},
		{"a token that is bound to nothing", func() error {
			_, err := core.ServiceAccounts(ns).CreateToken(ctx, "my-account", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
		{"a token for somebody else's ears", func() error {
			tr := bound(mine)
			tr.Spec.Audiences = []string{"https://bank.example"}
			_, err := core.ServiceAccounts(ns).CreateToken(ctx, "my-account", tr, metav1.CreateOptions{})
			return err
		}},
		{"endpoints of a Service", func() error {
			_, err := c.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Name: "kubernetes-x"}, AddressType: discoveryv1.AddressTypeIPv4,
			}, metav1.CreateOptions{})
			return err
		}},
		{"the rights of an administrator", func() error {
			_, err := c.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "mine"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects: []rbacv1.Subject{{Kind: "User", Name: "system:node:n3"}},
			}, metav1.CreateOptions{})
			return err
		}},
		{"an administrator's name", func() error {
			cfg := victim.as(victim.n1, pairOf(t, victim.n3.dir))
			cfg.Impersonate = rest.ImpersonationConfig{UserName: "kubernetes-admin", Groups: []string{"system:masters"}}
			_, err := clientOf(t, cfg).CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
			return err
		}},
		{"the state of the store", get(plane.StatusPath)},
		{"a backup of the store", get(plane.BackupPath)},
		{"metrics of the plane", get("/metrics")},
	} {
		if err := row.do(); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("%s: got %v, want Forbidden", row.what, err)
		} else {
			refused++
		}
	}
	if now := victim.n1.forbidden(t); now < from+float64(refused)-2 { // one is Invalid, one is the impersonation's
		t.Errorf("got %v refusals counted, want %d", now-from, refused-2)
	}
	// The keys of the cluster are for planes; the answer is enroll's own.
	err := get(enroll.KeysPath)()
	if status := apierrors.APIStatus(nil); err == nil || errors.As(err, &status) && status.Status().Code < 400 {
		t.Errorf("keys of the cluster: got %v, want a refusal", err)
	}
	eventually(t, "the audit log has what it tried on secrets", func() (bool, string) {
		n := refusals("system:node:n3", "secrets")
		return n >= 5, fmt.Sprintf("%d refusals", n)
	})
	for name, uid := range map[string]types.UID{"theirs": theirs.UID, "mine": mine.UID} {
		p, err := victim.client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil || p.UID != uid || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed {
			t.Errorf("pod %s after the attack: %v, %v", name, err, p)
		}
	}
	w.unharmed(t)
}

// own changes the node's own object.
func own(ctx context.Context, c *kubernetes.Clientset, patch string) func() error {
	return func() error {
		kind, data, opts := merge(patch)
		_, err := c.CoreV1().Nodes().Patch(ctx, "n3", kind, data, opts)
		return err
	}
}

func TestWithoutACertificateThereIsHealthAndVersionAndNothingElse(t *testing.T) {
	w := newWitness(t)
	cfg := rest.AnonymousClientConfig(victim.at(victim.n3))
	c := clientOf(t, cfg)
	for _, path := range []string{"/healthz", "/version"} {
		if err := c.RESTClient().Get().AbsPath(path).Do(t.Context()).Error(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{
		plane.StatusPath, plane.BackupPath, "/metrics", "/api/v1/nodes", "/api/v1/secrets", "/openapi/v2", "/debug/pprof/", "/logs/",
		"/api/v1/namespaces/kube-system/configmaps", enroll.KeysPath, "/apis", "//api/v1/secrets", "/healthz/../api/v1/secrets", "/version/../metrics",
	} {
		err := c.RESTClient().Get().AbsPath(path).Do(t.Context()).Error()
		if err == nil {
			t.Errorf("%s is answered to somebody who proved nothing", path)
		}
	}
	w.unharmed(t)
}

func TestNodeServerAnswersImagesToNodesAndTheRestToThePlaneAlone(t *testing.T) {
	w := newWitness(t)
	ctx := t.Context()
	pair := pairOf(t, victim.n3.dir)
	for _, m := range []*machine{victim.n1, victim.n2} {
		for _, row := range []struct{ method, path string }{
			{"GET", "/pods"}, {"GET", "/metrics"}, {"GET", "/stats/summary"}, {"GET", "/healthz"},
			{"GET", "/containerLogs/default/x/c"}, {"POST", "/confirm?node=n1&address=127.0.0.1:22"},
			{"GET", "/v2/../pods"}, {"GET", "//pods"}, {"POST", "/run/default/x/c"}, {"GET", "/debug/pprof/heap"},
		} {
			code, body, err := m.node(ctx, &pair, row.method, row.path)
			redirected := code/100 == 3 && !strings.HasPrefix(row.path, "/pods") // to a path that is refused
			if err != nil || code != http.StatusForbidden && !redirected {
				t.Errorf("%s %s of %s as another node: got %d, %v, %.80s; want 403", row.method, row.path, m.name, code, err, body)
			}
		}
		if code, _, err := m.node(ctx, &pair, "GET", "/v2/"); err != nil || code == http.StatusForbidden {
			t.Errorf("images of %s as another node: got %d, %v", m.name, code, err)
		}
		if code, _, err := m.node(ctx, nil, "GET", "/v2/"); err == nil {
			t.Errorf("images of %s without a certificate: got %d", m.name, code)
		}
		m.logged(t, "caller refused", "system:node:n3", "/confirm")
	}
	// The plane itself may have a node look at another.
	apiserver, err := victim.ca.Client(plane.NodeClient, nil)
	if err != nil {
		t.Fatal(err)
	}
	code, body, err := victim.n3.node(ctx, &apiserver, "POST", "/confirm?node=n1&address="+victim.n1.at(nodePort))
	if err != nil || code != http.StatusOK || !strings.Contains(body, "alive") {
		t.Errorf("the plane asks n3 about n1: got %d, %s, %v; want it alive", code, body, err)
	}
	w.unharmed(t)
}
