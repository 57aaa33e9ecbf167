package apiserver_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"copepod/plane/apiserver"
	"copepod/plane/apiserver/auditlog"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/seal"
	"copepod/plane/auth/token"
	"copepod/plane/kubestore"
	"copepod/plane/store"
)

// cluster is a whole API server in this process, over a store in memory.
type cluster struct {
	*apiserver.Server
	*kubernetes.Clientset // as an administrator
	dynamic               dynamic.Interface
	admin                 *rest.Config
	address               string
	auditPath             string
	ca                    *certs.CA
	store                 *store.Store
	unhealthy             atomic.Pointer[error]
	pair                  func() certs.Pair // that the server shows

	stop    context.CancelFunc
	stopped chan error // what Run of the server returned
}

// one is the cluster that tests share; each works in a namespace of its own.
var one *cluster

func TestMain(m *testing.M) {
	klog.SetLogger(klog.Logger{}) // the library's own chatter
	dir, err := os.MkdirTemp("", "apiserver")
	if err == nil {
		one, err = startCluster(filepath.Join(dir, "keys"), nil)
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

// startCluster starts a server with its keys in dir, over st or a store of its own.
func startCluster(dir string, st *store.Store) (*cluster, error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	c := &cluster{stopped: make(chan error, 1)}
	var err error
	if c.ca, err = certs.LoadOrCreateCA(dir); err != nil {
		return nil, err
	}
	if c.store = st; st == nil {
		if c.store, err = store.Open(store.Config{Log: log}); err != nil {
			return nil, err
		}
	}
	sealer, err := seal.LoadOrCreate(dir)
	if err != nil {
		return nil, err
	}
	objects, err := kubestore.New(c.store, kubestore.Config{
		ShareLists: true,
		Log:        log,
		Transformer: func(gr schema.GroupResource) value.Transformer {
			if gr == corev1.Resource("secrets") {
				return sealer.Transformer()
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	cfg, err := c.config(dir, objects, log)
	if err != nil {
		return nil, err
	}
	if c.Server, err = apiserver.New(cfg); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	return c, c.run(st == nil, objects)
}

func (c *cluster) config(dir string, objects *kubestore.K, log *slog.Logger) (apiserver.Config, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return apiserver.Config{}, err
	}
	c.address = listener.Addr().String()
	serving, err1 := c.ca.Server("kube-apiserver", certs.APIHosts("10.43.0.1", "127.0.0.1"))
	node, err2 := c.ca.Client("kube-apiserver-kubelet-client", []string{"system:masters"})
	keys, err3 := token.LoadOrCreateKeys(dir)
	if err := errors.Join(err1, err2, err3); err != nil {
		return apiserver.Config{}, err
	}
	c.pair = func() certs.Pair { return serving }
	registry := prometheus.NewRegistry()
	c.auditPath = filepath.Join(dir, "audit.log")
	record, err := auditlog.New(auditlog.Config{Path: c.auditPath, Log: log})
	if err != nil {
		return apiserver.Config{}, err
	}
	issuer, err := token.NewIssuer(token.Config{URL: "https://kubernetes.default.svc", Keys: keys})
	return apiserver.Config{
		Store: objects,
		Health: func() error {
			if err := c.unhealthy.Load(); err != nil {
				return *err
			}
			return c.store.Health()
		},
		Listener:   listener,
		Serving:    c.pair,
		Node:       func() certs.Pair { return node },
		Clients:    c.ca.Pool(),
		ClientsPEM: c.ca.PEM(),
		Issuer:     issuer,
		Audit:      record, AuditPolicy: record.Policy(),
		Metrics:    registry,
		Registerer: registry,
		Log:        log,
	}, err
}

// connect makes the administrator's clients.
func (c *cluster) connect() error {
	pair, err := c.ca.Admin()
	if err != nil {
		return err
	}
	c.admin = c.as(pair)
	if c.Clientset, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	c.dynamic, err = dynamic.NewForConfig(c.admin)
	return err
}

// as gives a client config with a certificate.
func (c *cluster) as(pair certs.Pair) *rest.Config {
	return &rest.Config{
		Host: "https://" + c.address, QPS: -1, UserAgent: "tester",
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.PEM(), CertData: pair.CertPEM, KeyData: pair.KeyPEM},
	}
}

// run starts everything and waits until the API answers.
func (c *cluster) run(ownStore bool, objects *kubestore.K) error {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	storeCtx, stopStore := context.WithCancel(context.Background())
	if ownStore {
		work.Go(func() { _ = c.store.Run(storeCtx) })
	}
	work.Go(func() { _ = objects.Run(storeCtx) })
	c.stop = cancel
	go func() {
		err := c.Server.Run(ctx)
		stopStore()
		work.Wait()
		c.stopped <- err
	}()
	select {
	case <-c.Ready():
		return nil
	case err := <-c.stopped:
		return fmt.Errorf("server ended before it was ready: %w", err)
	case <-time.After(30 * time.Second):
		return errors.New("server is not ready after 30 s")
	}
}

func (c *cluster) close() error {
	c.stop()
	return <-c.stopped
}

// user gives clients of somebody with a certificate.
func (c *cluster) user(t testing.TB, name string, groups ...string) *kubernetes.Clientset {
	t.Helper()
	pair, err := c.ca.Client(name, groups)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.as(pair))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var namespaceCount atomic.Int64

// namespace makes a namespace for one test.
func (c *cluster) namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", namespaceCount.Add(1))
	_, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// newPod is the smallest pod that is valid.
func newPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "hello:latest"}}},
	}
}

// must gives a value or ends the test.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// wantError checks the words of an error.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want %q", want)
		return
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got error\n\t%v\nwant it to say\n\t%s", err, want)
	}
}

// wantReason checks the reason of an API error.
func wantReason(t testing.TB, err error, want metav1.StatusReason) {
	t.Helper()
	if got := apierrors.ReasonForError(err); got != want {
		t.Errorf("got reason %q (%v), want %q", got, err, want)
	}
}
