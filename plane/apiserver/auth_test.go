package apiserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"copepod/plane/auth/certs"
)

// get asks for a path without any credentials, or with a token.
func get(t *testing.T, path, token string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: one.ca.Pool()}}}
	defer client.CloseIdleConnections()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+one.address+path, nil))(t)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp := must(client.Do(req))(t)
	defer resp.Body.Close()
	body := must(io.ReadAll(resp.Body))(t)
	return resp.StatusCode, string(body)
}

func TestAnonymousGetsHealthAndVersionOnly(t *testing.T) {
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/version"} {
		if code, body := get(t, path, ""); code != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", path, code, body)
		}
	}
	for _, path := range []string{"/api", "/apis", "/api/v1/namespaces", "/metrics", "/openapi/v2", "/openapi/v3", "/debug/pprof/", "/livez/ping", "/", "/.well-known/openid-configuration"} {
		if code, body := get(t, path, ""); code != http.StatusUnauthorized {
			t.Errorf("%s: got %d %s, want 401", path, code, body)
		}
	}
	if code, _ := get(t, "/api", "not-a-token"); code != http.StatusUnauthorized {
		t.Errorf("wrong token: got %d, want 401", code)
	}
}

func TestCertificateOfAnotherAuthorityIsNobody(t *testing.T) {
	other := must(certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki")))(t)
	pair := must(other.Admin())(t)
	config := one.as(pair)
	client := must(kubernetes.NewForConfig(config))(t)
	_, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	wantReason(t, err, metav1.StatusReasonUnauthorized)
}

func TestUserWithoutARoleIsForbiddenInTheWordsOfKubernetes(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	jane := one.user(t, "jane", "developers")
	_, err := jane.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden)
	wantError(t, err, fmt.Sprintf(`pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace %q`, namespace))
	_, err = jane.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	wantError(t, err, `nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope`)
}

func TestRoleBindingGivesAndItsRemovalTakes(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	john := one.user(t, "john-"+namespace)
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "john"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "john-" + namespace}},
	}
	must(one.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}))(t)
	must(john.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}))(t)
	_, err := john.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden) // view has no secrets
	_, err = john.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden)
	if err := one.RbacV1().RoleBindings(namespace).Delete(ctx, "john", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = john.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden)
}

func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	name := "admin-" + namespace
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}
	must(one.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}))(t)
	admin := one.user(t, name)
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
	must(admin.RbacV1().Roles(namespace).Create(ctx, role, metav1.CreateOptions{}))(t)
	role = &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}}
	_, err := admin.RbacV1().Roles(namespace).Create(ctx, role, metav1.CreateOptions{})
	wantReason(t, err, metav1.StatusReasonForbidden)
	wantError(t, err, "is attempting to grant RBAC permissions not currently held")
}

func TestServiceAccountTokenIsSomebodyUntilItsAccountIsGone(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(one.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}))(t)
	request := must(one.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))(t)
	if request.Status.Token == "" || request.Name != "robot" || *request.Spec.ExpirationSeconds != 3600 {
		t.Errorf("got token request %+v", request.Spec)
	}
	config := &rest.Config{Host: "https://" + one.address, BearerToken: request.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: one.ca.PEM()}}
	robot := must(kubernetes.NewForConfig(config))(t)
	me := must(robot.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}))(t)
	if got, want := me.Status.UserInfo.Username, "system:serviceaccount:"+namespace+":robot"; got != want {
		t.Errorf("got user %s, want %s", got, want)
	}
	groups := strings.Join(me.Status.UserInfo.Groups, " ")
	if want := "system:serviceaccounts system:serviceaccounts:" + namespace + " system:authenticated"; groups != want {
		t.Errorf("got groups %s, want %s", groups, want)
	}
	review := must(one.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: request.Status.Token}}, metav1.CreateOptions{}))(t)
	if !review.Status.Authenticated || review.Status.User.Username != me.Status.UserInfo.Username {
		t.Errorf("got token review %+v", review.Status)
	}
	review = must(one.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "nonsense"}}, metav1.CreateOptions{}))(t)
	if review.Status.Authenticated {
		t.Error("nonsense was authenticated")
	}
	_, err := one.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "nobody", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	wantReason(t, err, metav1.StatusReasonNotFound)
}

func TestAccessReviewsAnswerAsTheAuthorizerWould(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	pods := &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "list", Resource: "pods"}
	mine := must(one.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods}}, metav1.CreateOptions{}))(t)
	if !mine.Status.Allowed {
		t.Errorf("administrator may not list pods: %+v", mine.Status)
	}
	theirs := must(one.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "jane", ResourceAttributes: pods}}, metav1.CreateOptions{}))(t)
	if theirs.Status.Allowed {
		t.Errorf("jane may list pods: %+v", theirs.Status)
	}
	local := must(one.AuthorizationV1().LocalSubjectAccessReviews(namespace).Create(ctx, &authorizationv1.LocalSubjectAccessReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace},
		Spec:       authorizationv1.SubjectAccessReviewSpec{Groups: []string{"system:masters"}, ResourceAttributes: pods}}, metav1.CreateOptions{}))(t)
	if !local.Status.Allowed {
		t.Errorf("masters may not list pods: %+v", local.Status)
	}
	rules := must(one.user(t, "jane").AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}, metav1.CreateOptions{}))(t)
	if len(rules.Status.ResourceRules) == 0 || len(rules.Status.NonResourceRules) == 0 || rules.Status.Incomplete {
		t.Errorf("got rules %+v, want those of every authenticated user", rules.Status)
	}
	_, err := one.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{}, metav1.CreateOptions{})
	wantError(t, err, "spec.user: Invalid value")
}

func TestSecretsAreSealedAtRest(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	const word = "swordfish-in-the-clear"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"word": word}}
	must(one.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}))(t)
	kv := one.store.Snapshot().Get("/registry/core/secrets/" + namespace + "/s")
	if kv == nil {
		t.Fatal("the store has no such key")
	}
	if strings.Contains(string(kv.Value), word) {
		t.Error("the store has the secret in the clear")
	}
	read := must(one.CoreV1().Secrets(namespace).Get(ctx, "s", metav1.GetOptions{}))(t)
	if got := string(read.Data["word"]); got != word {
		t.Errorf("got %q back", got)
	}
}

func TestReadyzTellsWhyTheServerIsNotReady(t *testing.T) {
	broken := errors.New("disk is full")
	one.unhealthy.Store(&broken)
	defer one.unhealthy.Store(nil)
	code, body := get(t, "/readyz", "")
	if code != http.StatusInternalServerError || !strings.Contains(body, "[-]store failed") {
		t.Errorf("got %d %s", code, body)
	}
	if code, _ := get(t, "/livez", ""); code != http.StatusOK {
		t.Errorf("livez: got %d, want 200: a restart does not make room", code)
	}
	one.unhealthy.Store(nil)
	if code, _ := get(t, "/readyz", ""); code != http.StatusOK {
		t.Errorf("got %d after the disk was cleaned, want 200", code)
	}
}

func TestMetricsAreForAdministrators(t *testing.T) {
	text, err := one.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"apiserver_request_total", `copepod_api_inprocess_writes_total{outcome="ok",verb="create"}`} {
		if !strings.Contains(string(text), name) {
			t.Errorf("metrics have no %s", name)
		}
	}
	_, err = one.user(t, "jane").Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	wantReason(t, err, metav1.StatusReasonForbidden)
}

func TestIssuerIsDiscoverable(t *testing.T) {
	for path, want := range map[string]string{"/.well-known/openid-configuration": "jwks_uri", "/openid/v1/jwks": "keys"} {
		text, err := one.Discovery().RESTClient().Get().AbsPath(path).DoRaw(t.Context())
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: got %s, %v; want it to have %q", path, text, err, want)
		}
	}
}
