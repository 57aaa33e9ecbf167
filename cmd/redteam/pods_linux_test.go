package redteam

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"copepod/node/mesh/vnet"
)

func TestTokenOfAServiceAccountIsGoodForItsNamespaceAndItsPodAlone(t *testing.T) {
	w := newWitness(t)
	ctx := t.Context()
	mine, theirs := namespace(t, "account-mine"), namespace(t, "account-theirs")
	p := pod(t, mine, "p", "n3", "s", "sa")
	pod(t, theirs, "p", "n1", "s", "sa") // the same names, elsewhere
	create(t, victim.client.RbacV1().RoleBindings(mine).Create, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: mine, Name: "sa"}},
	})
	token := func(audiences ...string) string {
		tr, err := victim.client.CoreV1().ServiceAccounts(mine).CreateToken(ctx, "sa", &authenticationv1.TokenRequest{
			Spec: authenticationv1.TokenRequestSpec{
				Audiences: audiences, BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return tr.Status.Token
	}
	as := func(token string) *rest.Config {
		cfg := rest.AnonymousClientConfig(victim.at(victim.n3))
		cfg.BearerToken = token
		return cfg
	}
	good := token()
	c := clientOf(t, as(good))
	eventually(t, "the account may read its own namespace", func() (bool, string) {
		_, err := c.CoreV1().Secrets(mine).List(ctx, metav1.ListOptions{})
		return err == nil, ""
	})
	for what, do := range map[string]func() error{
		"secrets of another namespace": func() error { _, err := c.CoreV1().Secrets(theirs).List(ctx, metav1.ListOptions{}); return err },
		"pods of another namespace":    func() error { return c.CoreV1().Pods(theirs).Delete(ctx, "p", metav1.DeleteOptions{}) },
		"all secrets":                  func() error { _, err := c.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); return err },
		"nodes":                        func() error { return c.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}) },
		"tokens of another account": func() error {
			_, err := c.CoreV1().ServiceAccounts(theirs).CreateToken(ctx, "sa", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"the role of the cluster's administrator": func() error {
			_, err := c.RbacV1().RoleBindings(mine).Create(ctx, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: "more"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"},
				Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: mine, Name: "sa"}},
			}, metav1.CreateOptions{})
			return err
		},
	} {
		if err := do(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: got %v, want Forbidden", what, err)
		}
	}
	forged := good[:len(good)-8] + "AAAAAAAA"
	for what, token := range map[string]string{
		"a token for another audience": token("https://bank.example"), "a forged signature": forged, "nonsense": "e30.e30.",
	} {
		if _, err := clientOf(t, as(token)).CoreV1().Secrets(mine).List(ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("%s: got %v, want Unauthorized", what, err)
		}
	}
	// With its pod the token ends; one that was in use a moment ago, seconds later.
	unused := clientOf(t, as(token()))
	none := int64(0)
	if err := victim.client.CoreV1().Pods(mine).Delete(ctx, "p", metav1.DeleteOptions{GracePeriodSeconds: &none}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token of a pod that is gone is worthless", func() (bool, string) {
		_, err := unused.CoreV1().Secrets(mine).List(ctx, metav1.ListOptions{})
		return apierrors.IsUnauthorized(err), "still good"
	})
	w.unharmed(t)
}

func TestPodsReachNoPortOfTheMachineTheyRunOnNorItsCredentials(t *testing.T) {
	w := newWitness(t)
	network := vnet.New(vnet.Config{Outside: vnet.Egress{Timeout: time.Second}, Inside: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")}})
	ip := netip.MustParseAddr("10.64.0.5")
	stack, err := network.Attach(ip)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stack.Close() }()
	targets := []string{"169.254.169.254:80", "0.0.0.0:6443", "127.0.0.1:22", "255.255.255.255:1", "224.0.0.1:1"}
	for _, at := range doors() {
		targets = append(targets, at)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			targets = append(targets, net.JoinHostPort(n.IP.String(), "10250"))
		}
	}
	for _, to := range targets {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, err := stack.Dial(ctx, "tcp", to)
		cancel()
		if err == nil {
			_ = conn.Close()
			t.Errorf("a pod reaches %s", to)
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want it refused at once", to, err)
		}
	}
	w.unharmed(t)
}
