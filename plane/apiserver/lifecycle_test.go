package apiserver_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/apiserver"
	"copepod/plane/kubestore"
	"copepod/plane/store"
)

func TestConfigSaysWhatIsMissing(t *testing.T) {
	st, err := store.Open(store.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	k := must(kubestore.New(st, kubestore.Config{}))(t)
	l := must(net.Listen("tcp", "0.0.0.0:0"))(t)
	defer l.Close()
	serving := one.pair
	for name, test := range map[string]struct {
		cfg  apiserver.Config
		want string
	}{
		"nothing":   {apiserver.Config{}, "apiserver: config: Store is nil"},
		"listener":  {apiserver.Config{Store: k}, "apiserver: config: Listener is nil"},
		"pair":      {apiserver.Config{Store: k, Listener: l}, "apiserver: config: Serving is nil"},
		"clients":   {apiserver.Config{Store: k, Listener: l, Serving: serving}, "apiserver: config: Clients or ClientsPEM is empty"},
		"advertise": {apiserver.Config{Store: k, Listener: l, Serving: serving, Clients: one.ca.Pool(), ClientsPEM: one.ca.PEM()}, "others need an address that leads here"},
	} {
		_, err := apiserver.New(test.cfg)
		t.Run(name, func(t *testing.T) { wantError(t, err, test.want) })
	}
}

func TestServerOverAnOldStoreFindsEverythingAsItWas(t *testing.T) {
	dir := t.TempDir()
	ctx, stopStore := context.WithCancel(t.Context())
	st := must(store.Open(store.Config{Dir: filepath.Join(dir, "store"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}))(t)
	ended := make(chan error, 1)
	go func() { ended <- st.Run(ctx) }()
	defer func() { stopStore(); <-ended }()
	keys := filepath.Join(dir, "keys")

	first := must(startCluster(keys, st))(t)
	must(first.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, StringData: map[string]string{"a": "b"}}, metav1.CreateOptions{}))(t)
	before := identities(t, first)
	// An open watch does not hold up the end.
	w := must(first.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{}))(t)
	defer w.Stop()
	if err := first.close(); err != nil {
		t.Fatal(err)
	}

	second := must(startCluster(keys, st))(t)
	after := identities(t, second)
	for name, id := range before {
		if after[name] != id {
			t.Errorf("%s: got %s, want %s", name, after[name], id)
		}
	}
	if got := len(after); got != len(before) {
		t.Errorf("got %d objects, want %d", got, len(before))
	}
	secret := must(second.CoreV1().Secrets("default").Get(ctx, "kept", metav1.GetOptions{}))(t)
	if string(secret.Data["a"]) != "b" {
		t.Errorf("got secret data %v", secret.Data)
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
}

// identities gives UID and version of what a server makes at its start. Its own
// slice is left out, for the address may have changed.
func identities(t *testing.T, c *cluster) map[string]string {
	t.Helper()
	ids := map[string]string{}
	add := func(kind string, m *metav1.ObjectMeta) {
		ids[kind+" "+m.Namespace+"/"+m.Name] = string(m.UID) + " " + m.ResourceVersion
	}
	ctx := t.Context()
	for _, ns := range must(c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}))(t).Items {
		add("namespace", &ns.ObjectMeta)
	}
	for _, role := range must(c.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{}))(t).Items {
		add("clusterrole", &role.ObjectMeta)
	}
	for _, binding := range must(c.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{}))(t).Items {
		add("clusterrolebinding", &binding.ObjectMeta)
	}
	for _, svc := range must(c.CoreV1().Services("").List(ctx, metav1.ListOptions{}))(t).Items {
		add("service", &svc.ObjectMeta)
	}
	return ids
}

func TestServerThatCannotReachStorageIsNotReady(t *testing.T) {
	st := must(store.Open(store.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}))(t)
	c := &cluster{store: st, stopped: make(chan error, 1)}
	c.ca = one.ca
	objects := must(kubestore.New(st, kubestore.Config{}))(t)
	cfg := must(c.config(filepath.Join(t.TempDir(), "keys"), objects, slog.New(slog.NewTextHandler(io.Discard, nil))))(t)
	server := must(apiserver.New(cfg))(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := server.Run(ctx); err != nil { // the store never runs
		t.Error(err)
	}
	select {
	case <-server.Ready():
		t.Error("the server claims to be ready")
	default:
	}
	_ = st.Close()
}
