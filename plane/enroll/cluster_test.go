package enroll_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"copepod/plane/apiserver"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/nodes"
	"copepod/plane/auth/seal"
	"copepod/plane/auth/token"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
	"copepod/plane/kubestore"
	"copepod/plane/store"
)

const (
	patient = 60 * time.Second // of a test that waits for a condition
	release = "v0.3.1"         // of the cluster
)

// cluster is a whole API server with the door for machines, in this process.
type cluster struct {
	*apiserver.Server
	*kubernetes.Clientset // as an administrator
	enroll                *enroll.Server
	ca                    *certs.CA
	dir                   string
	address               string
	planes                atomic.Pointer[[]enroll.Member]
	raft                  atomic.Pointer[map[string]string]

	stop  context.CancelFunc
	ended []chan error
}

// one is the cluster that tests share; each has machines with names of its own.
var one *cluster

func TestMain(m *testing.M) {
	klog.SetLogger(klog.Logger{}) // the library's own chatter
	dir, err := os.MkdirTemp("", "enroll")
	if err == nil {
		one, err = startCluster(filepath.Join(dir, "data"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := one.close(); err != nil {
		fmt.Fprintln(os.Stderr, "shared cluster:", err)
		code = cmp.Or(code, 1)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func startCluster(dir string) (*cluster, error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	c := &cluster{dir: dir}
	var err error
	if c.ca, err = certs.LoadOrCreateCA(filepath.Join(dir, "pki")); err != nil {
		return nil, err
	}
	sealer, err1 := seal.LoadOrCreate(filepath.Join(dir, "seal"))
	keys, err2 := token.LoadOrCreateKeys(filepath.Join(dir, "tokens"))
	st, err3 := store.Open(store.Config{Log: log})
	listener, err4 := net.Listen("tcp", "127.0.0.1:0")
	serving, err5 := c.ca.Server("kube-apiserver", certs.APIHosts("10.43.0.1"))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	issuer, err := token.NewIssuer(token.Config{URL: "https://kubernetes.default.svc", Keys: keys})
	if err != nil {
		return nil, err
	}
	objects, err := kubestore.New(st, kubestore.Config{ShareLists: true, Log: log, Transformer: func(gr schema.GroupResource) value.Transformer {
		if gr == corev1.Resource("secrets") {
			return sealer.Transformer()
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	c.address = listener.Addr().String()
	self := netip.MustParseAddrPort(c.address)
	c.planes.Store(&[]enroll.Member{{Name: "plane-1", Address: self.Addr(), Ports: enroll.Ports{API: self.Port()}}})
	c.raft.Store(&map[string]string{})
	c.enroll, err = enroll.NewServer(enroll.ServerConfig{
		Dir: dir, CA: c.ca, Version: release, Log: log,
		Objects:  func() enroll.Objects { return c.Local() },
		Fresh:    st.ReadIndex,
		Planes:   func() []enroll.Member { return *c.planes.Load() },
		Raft:     func() map[string]string { return *c.raft.Load() },
		Settings: enroll.Settings{PodCIDR: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16")},
	})
	if err != nil {
		return nil, err
	}
	c.Server, err = apiserver.New(apiserver.Config{
		Store: objects, Health: st.Health, Listener: listener,
		Serving: func() certs.Pair { return serving },
		Clients: c.ca.Pool(), ClientsPEM: c.ca.PEM(), Issuer: issuer, Log: log,
		Authorizers:     []union.NamedAuthorizer{{AuthorizerName: "node", Authorizer: nodes.NewAuthorizer(&nodes.Graph{})}},
		Front:           func(next http.Handler) http.Handler { return c.enroll.Front(next) },
		ShutdownTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	admin, err := c.ca.Admin()
	if err != nil {
		return nil, err
	}
	c.Clientset, err = kubernetes.NewForConfig(&rest.Config{
		Host: "https://" + c.address, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.PEM(), CertData: admin.CertPEM, KeyData: admin.KeyPEM},
	})
	if err != nil {
		return nil, err
	}
	return c, c.run(st, objects)
}

// run starts the parts, the lowest first.
func (c *cluster) run(st *store.Store, objects *kubestore.K) error {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	start := func(run func(context.Context) error) {
		ended := make(chan error, 1)
		c.ended = append(c.ended, ended)
		go func() { ended <- run(ctx) }()
	}
	start(st.Run)
	start(objects.Run)
	<-st.Ready()
	start(c.Server.Run)
	select {
	case <-c.Ready():
	case <-time.After(patient):
		return errors.New("the API does not become ready")
	}
	start(c.enroll.Run)
	start(c.enroll.Keep)
	return nil
}

func (c *cluster) close() error {
	c.stop()
	var all error
	for _, ended := range c.ended {
		all = errors.Join(all, <-ended)
	}
	return all
}

// token makes a join token and gives it as it is pasted.
func (c *cluster) token(t testing.TB, spec join.Spec) string {
	t.Helper()
	spec.Pin = c.ca.Hash()
	if spec.Now.IsZero() {
		spec.Now = time.Now()
	}
	tok, _, err := enroll.CreateToken(t.Context(), c, spec)
	if err != nil {
		t.Fatal(err)
	}
	return tok.String()
}

// request is a machine that has not joined, in a directory of its own.
func (c *cluster) request(t testing.TB, name, token string) enroll.Request {
	c.forget(t, name)
	return enroll.Request{
		Dir: filepath.Join(t.TempDir(), "data"), Server: c.address, Token: token, Name: name,
		Ports: enroll.Ports{API: 6443, Node: 10250}, Version: release, Log: slog.New(slog.DiscardHandler),
	}
}

// forget gives a name free at the end of the test.
func (c *cluster) forget(t testing.TB, name string) {
	t.Cleanup(func() {
		err := c.CoreV1().Secrets(enroll.Namespace).Delete(context.Background(), enroll.IdentityPrefix+name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			t.Error(err)
		}
	})
}

// machine is one that has joined.
func (c *cluster) machine(t testing.TB, name string, role join.Role) (*enroll.Membership, enroll.Request) {
	t.Helper()
	req := c.request(t, name, c.token(t, join.Spec{Role: role}))
	m, err := enroll.Join(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return m, req
}

// as is a client with a machine's certificate, as it is now.
func (c *cluster) as(t testing.TB, m *enroll.Membership) *kubernetes.Clientset {
	t.Helper()
	config := m.API(c.address)
	config.QPS = -1
	pair, err := m.ClientPair()
	if err != nil {
		t.Fatal(err)
	}
	// From files client-go would take a new one after some minutes only.
	config.CertFile, config.KeyFile, config.CertData, config.KeyData = "", "", pair.CertPEM, pair.KeyPEM
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// register makes the machine's Node, ready, as its node would.
func (c *cluster) register(t testing.TB, m *enroll.Membership) {
	t.Helper()
	client := c.as(t, m)
	node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // others wait for what is ready
		err := c.CoreV1().Nodes().Delete(context.Background(), m.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patient)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patient)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = keyfile.Write(to, data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func keyOf(t testing.TB, dir string) *ecdsa.PrivateKey {
	t.Helper()
	key, _, err := certs.NodeKey(filepath.Join(dir, "node", "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// install puts a certificate where a machine has its own.
func install(t testing.TB, dir string, pair tls.Certificate) {
	t.Helper()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	if err := keyfile.Write(filepath.Join(dir, "node", "client.crt"), certPEM); err != nil {
		t.Fatal(err)
	}
}

// otherCA is the directory of a CA that is not the cluster's.
func otherCA(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.LoadOrCreateCA(filepath.Join(dir, "pki")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// signBy signs with the CA of a data directory, whatever the dates.
func signBy(t testing.TB, dir string, key *ecdsa.PrivateKey, subject pkix.Name, from, until time.Time) tls.Certificate {
	t.Helper()
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, "pki", "ca.crt"), filepath.Join(dir, "pki", "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
