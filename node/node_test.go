package node_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node"
	"copepod/node/mesh/vnet"
	"copepod/node/runtime/runtimetest"
)

// patience bounds a wait for what must happen; it is no measure of anything.
const patience = 30 * time.Second

// agent is a node whose API is in memory and whose programs are functions.
type agent struct {
	t      *testing.T
	node   *node.Node
	api    kubernetes.Interface
	rt     *runtimetest.Fake
	client *http.Client // as the API server
	url    string
	stop   func()
}

// startNode starts a node and waits until it is ready, unless it is to boot
// without an API.
func startNode(t *testing.T, dir string, api kubernetes.Interface, change ...func(*node.Config)) *agent {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	pool, cert := certificate(t, "apiserver")
	rt := runtimetest.NewFake(runtimetest.Programs())
	metrics := prometheus.NewRegistry()
	cfg := node.Config{
		Name: "n1", Version: "v1.37.0", Runtime: "wazero://1.12.0", Client: api, Dir: dir, Listener: l, Addr: netip.MustParseAddr("127.0.0.1"),
		Wasm: rt, Network: vnet.New(vnet.Config{}), PodCIDR: netip.MustParsePrefix("10.42.0.0/16"),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }, ClientCA: pool, Callers: []string{"apiserver"},
		Metrics: metrics, Registerer: metrics,
	}
	for _, c := range change {
		c(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	a := &agent{t: t, node: n, api: api, rt: rt, url: "https://" + l.Addr().String(), client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}}}
	stopped := false
	a.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run, want nil", err)
		}
		a.client.CloseIdleConnections()
	}
	t.Cleanup(a.stop)
	if cfg.Offline == 0 {
		a.awaitReady()
	}
	return a
}

func (a *agent) awaitReady() {
	a.t.Helper()
	select {
	case <-a.node.Ready():
	case <-time.After(patience):
		a.t.Fatal("the node did not become ready")
	}
}

// certificate makes one that is its own authority, for both ends of a test.
func certificate(t *testing.T, user string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func bound(name, image string, args ...string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"},
		Spec: v1.PodSpec{NodeName: "n1", RestartPolicy: v1.RestartPolicyAlways, Containers: []v1.Container{{
			Name: "app", Image: image, Args: args, ImagePullPolicy: v1.PullIfNotPresent,
		}}},
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
}

// pods follows the pods of the API until one satisfies want.
func (a *agent) pods(what string, want func(e watch.Event, pod *v1.Pod) bool, act func()) {
	a.t.Helper()
	w, err := a.api.CoreV1().Pods("default").Watch(a.t.Context(), metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	defer w.Stop()
	act()
	late := time.After(patience)
	last := "nothing"
	for {
		select {
		case e := <-w.ResultChan():
			pod := e.Object.(*v1.Pod)
			if want(e, pod) {
				return
			}
			last = fmt.Sprintf("%s %s: %+v", e.Type, pod.Name, pod.Status)
		case <-late:
			a.t.Fatalf("waited in vain for %s; saw last %s", what, last)
		}
	}
}

func (a *agent) create(p *v1.Pod) func() {
	return func() {
		if _, err := a.api.CoreV1().Pods(p.Namespace).Create(a.t.Context(), p, metav1.CreateOptions{}); err != nil {
			a.t.Fatal(err)
		}
	}
}

func isReady(_ watch.Event, p *v1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func (a *agent) get(path string) string {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		a.t.Fatal(err)
	}
	return body.String()
}

func TestANodeRegistersItselfWithWhatItHas(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset())
	n, err := a.api.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{v1.LabelHostname, v1.LabelOSStable, v1.LabelArchStable} {
		if n.Labels[label] == "" {
			t.Errorf("got no label %s, want one", label)
		}
	}
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourcePods, v1.ResourceEphemeralStorage} {
		if q := n.Status.Allocatable[name]; q.IsZero() {
			t.Errorf("got no %s, want some", name)
		}
	}
	kinds := map[v1.NodeConditionType]v1.ConditionStatus{}
	for _, c := range n.Status.Conditions {
		kinds[c.Type] = c.Status
	}
	if len(kinds) != 4 || kinds[v1.NodeReady] != v1.ConditionTrue {
		t.Errorf("got conditions %v, want four, Ready", kinds)
	}
	info := n.Status.NodeInfo
	if info.KubeletVersion != "v1.37.0" || info.ContainerRuntimeVersion != "wazero://1.12.0" || info.OperatingSystem == "" {
		t.Errorf("got %+v, want versions and system", info)
	}
	if want := ":" + fmt.Sprint(n.Status.DaemonEndpoints.KubeletEndpoint.Port); !strings.HasSuffix(a.url, want) {
		t.Errorf("got port %s announced, want that of %s", want, a.url)
	}
	until(t, "a lease", func() bool {
		lease, err := a.api.CoordinationV1().Leases(v1.NamespaceNodeLease).Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && *lease.Spec.HolderIdentity == "n1" && *lease.Spec.LeaseDurationSeconds == 40 && lease.Spec.RenewTime != nil
	})
}

// until asks again until something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestAPodRunsIsReportedAndGoes(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset())
	web := bound("web", runtimetest.GuestImage, "print", "x")
	web.Spec.Containers[0].Env = []v1.EnvVar{{Name: "GREETING", Value: "hello"}}
	web.Spec.RestartPolicy = v1.RestartPolicyNever
	a.pods("web to succeed", func(_ watch.Event, p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded }, a.create(web))
	if got, want := a.get("/containerLogs/default/web/app"), "hello x\ndone\n"; got != want {
		t.Errorf("got logs %q, want %q", got, want)
	}
	server := bound("server", "server:v1")
	a.pods("server to be ready", isReady, a.create(server))
	if got := a.get("/metrics"); !strings.Contains(got, `copepod_node_pods{phase="Running"} 1`) {
		t.Errorf("got metrics without a running pod:\n%s", got)
	}
	a.pods("server to go", func(e watch.Event, p *v1.Pod) bool { return e.Type == watch.Deleted && p.Name == "server" }, func() {
		p, err := a.api.CoreV1().Pods("default").Get(t.Context(), "server", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now, grace := metav1.Now(), int64(5)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
		if _, err := a.api.CoreV1().Pods("default").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	until(t, "events", func() bool {
		list, err := a.api.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range list.Items {
			seen[e.Reason] = true
		}
		return seen["Pulled"] && seen["Created"] && seen["Started"] && seen["Killing"]
	})
}

func TestANodeThatComesBackRunsItsPodsAgain(t *testing.T) {
	dir, api := t.TempDir(), fake.NewClientset()
	first := startNode(t, dir, api)
	first.pods("web to be ready", isReady, first.create(bound("web", "server:v1")))
	first.stop()
	second := startNode(t, dir, api)
	again := func(_ watch.Event, p *v1.Pod) bool {
		return isReady(watch.Event{}, p) && p.Status.ContainerStatuses[0].RestartCount == 1 && p.UID == "uid-web"
	}
	until(t, "web to run again", func() bool {
		p, err := second.api.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && again(watch.Event{}, p)
	})
}

func TestAConfigMapThatComesLateStartsThePodThatWaitsForIt(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset())
	web := bound("web", "server:v1")
	web.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "app"}}}}
	a.pods("web to say what is missing", func(_ watch.Event, p *v1.Pod) bool {
		cs := p.Status.ContainerStatuses
		return len(cs) == 1 && cs[0].State.Waiting != nil && cs[0].State.Waiting.Message == `configmap "app" not found`
	}, a.create(web))
	a.pods("web to be ready", isReady, func() {
		cm := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app", ResourceVersion: "1"}, Data: map[string]string{"A": "1"}}
		if _, err := a.api.CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARuntimeClassChoosesTheRuntime(t *testing.T) {
	a := startNode(t, t.TempDir(), fake.NewClientset(
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Handler: "wasmtime"},
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "kata"}, Handler: "kata"},
	))
	with := func(name, class string) *v1.Pod {
		p := bound(name, "server:v1")
		p.Spec.RuntimeClassName = &class
		return p
	}
	a.pods("a pod of another's wasm class", isReady, a.create(with("ok", "fast")))
	for class, want := range map[string]string{"kata": `no runtime for handler "kata"`, "none": `RuntimeClass "none" not found`} {
		a.create(with("not-"+class, class))()
		until(t, "an event that refuses "+class, func() bool {
			list, err := a.api.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list.Items {
				if e.Reason == "FailedCreatePodSandBox" && strings.Contains(e.Message, want) {
					return true
				}
			}
			return false
		})
	}
}

func TestAConfigurationThatLacksSomethingIsRefused(t *testing.T) {
	if _, err := node.New(node.Config{}); err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Errorf("got %v, want an error that says what is needed", err)
	}
}
