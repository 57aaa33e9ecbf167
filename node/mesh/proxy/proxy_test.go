package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node/mesh/proxy"
	"copepod/node/mesh/table"
	"copepod/node/mesh/vnet"
)

// world is two pods that answer with their address, a Service over both on a
// node port, and the proxy in front.
type world struct {
	api  *fake.Clientset
	pods [2]*vnet.Stack
	port int32
	stat func() proxy.Stats
	svcs func() []*corev1.Service
}

func start(t *testing.T) *world {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no kernel loopback here")
	}
	w := &world{port: int32(free.Addr().(*net.TCPAddr).Port)}
	_ = free.Close()

	tab := table.New()
	n := vnet.New(vnet.Config{Router: proxy.Router{Table: tab}})
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports:      []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080))}},
	}
	for i := range w.pods {
		ip := netip.AddrFrom4([4]byte{10, 42, 0, byte(i + 1)})
		if w.pods[i], err = n.Attach(ip); err != nil {
			t.Fatal(err)
		}
		l, err := w.pods[i].Listen(t.Context(), "tcp", ":8080")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_, _ = fmt.Fprintf(rw, "%s %d", ip, len(body))
			}))
		}()
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip.String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
	}
	w.api = fake.NewSimpleClientset(slice, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.1", Ports: []corev1.ServicePort{{Port: 80, NodePort: w.port}}},
	})
	p, err := proxy.New(proxy.Config{API: w.api, Table: tab, Dial: n.Dial, Bind: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	w.stat, w.svcs = p.Stats, p.Services
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// get asks once, over a connection of its own.
func (w *world) get(body io.Reader) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := client.Post(fmt.Sprintf("http://127.0.0.1:%d/", w.port), "", body)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// eventually waits for a condition that events bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it never came to this: %s", what)
}

func TestNodePortSpreadsOverReadyPods(t *testing.T) {
	w := start(t)
	seen := map[string]bool{}
	eventually(t, "both pods answer", func() bool {
		if body, err := w.get(nil); err == nil {
			seen[body] = true
		}
		return len(seen) == 2
	})
}

func TestALargeRequestPassesWhole(t *testing.T) {
	w := start(t)
	eventually(t, "the node port answers", func() bool { _, err := w.get(nil); return err == nil })
	body, err := w.get(io.LimitReader(zeros{}, 3<<20))
	if err != nil || body[len(body)-7:] != "3145728" {
		t.Errorf("got %q, %v; want a pod that read 3145728 bytes", body, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAPodThatJustWentIsPassedOver(t *testing.T) {
	w := start(t)
	eventually(t, "the node port answers", func() bool { _, err := w.get(nil); return err == nil })
	_ = w.pods[0].Close() // and its endpoint still stands in the slice
	failed := 0
	for range 20 {
		if _, err := w.get(nil); err != nil {
			failed++
		}
	}
	if failed > 10 { // a try hits the dead pod with 1/2; three in a row with 1/8
		t.Errorf("%d of 20 requests failed although a pod is ready", failed)
	}
}

func TestNodePortClosesWithItsService(t *testing.T) {
	w := start(t)
	eventually(t, "the node port answers", func() bool { _, err := w.get(nil); return err == nil })
	if err := w.api.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	eventually(t, "no connection is left open", func() bool { return w.stat().Open == 0 })
}

func TestServicesAreThereForTheFirstPodThatAsks(t *testing.T) {
	w := start(t)
	if got := w.svcs(); len(got) != 1 || got[0].Name != "web" {
		t.Errorf("got %v, want web", got)
	}
}
