package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node/mesh/link"
	"copepod/node/mesh/proxy"
	"copepod/node/mesh/table"
	"copepod/node/mesh/vnet"
)

// services is a Service "web", 10.43.0.1:80 and nodePort, with a pod on each of
// three nodes that answers with its address, and the routes of each node.
type services struct {
	*world
	nodes  [3]*node
	tables [3]*table.Table
	client *vnet.Stack // a pod on the first node
}

func web(nodePort int32, policy corev1.ServiceExternalTrafficPolicy) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.43.0.1", ExternalTrafficPolicy: policy,
			Ports: []corev1.ServicePort{{Port: 80, NodePort: nodePort}},
		},
	}
}

func webSlice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports:      []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080))}},
	}
	for i := range 3 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.64.%d.9", i+1)}, NodeName: new(fmt.Sprint("n", i+1)),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	return s
}

func newServices(t *testing.T) *services {
	t.Helper()
	s := &services{world: newWorld(t)}
	for i := range s.nodes {
		tab := table.NewFor(fmt.Sprint("n", i+1))
		tab.SetService(web(0, ""))
		tab.SetSlice(webSlice())
		s.tables[i] = tab
		s.nodes[i] = s.node(i+1, func(_ *link.Config, v *vnet.Config) { v.Router = proxy.Router{Table: tab} })
		ip := fmt.Sprintf("10.64.%d.9", i+1)
		l := listen(t, s.nodes[i].pod(t, ip), ":8080")
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, ip) })}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	s.client = s.nodes[0].pod(t, "10.64.1.5")
	return s
}

// get asks a URL once, over a connection of its own.
func get(dial func(ctx context.Context, network, addr string) (net.Conn, error), url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestAServiceSpreadsOverPodsOfAllNodes(t *testing.T) {
	s := newServices(t)
	seen := map[string]bool{}
	eventually(t, "pods of all three nodes answer", func() bool {
		body, err := get(s.client.Dial, "http://10.43.0.1/")
		if err != nil {
			t.Fatal(err)
		}
		seen[body] = true
		return len(seen) == 3
	})
}

func TestNoRequestFailsWhenANodeDiesWhoseEndpointsStillStand(t *testing.T) {
	s := newServices(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	began := make(chan struct{}, 4)
	for range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				// A dial is what must not fail: who is connected to the dead node gets a reset.
				c, err := s.client.Dial(t.Context(), "tcp", "10.43.0.1:80")
				if err != nil {
					t.Errorf("dial failed: %v", err)
					return
				}
				_ = c.Close()
				if n == 10 {
					began <- struct{}{}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 4 {
		select {
		case <-began:
		case <-t.Context().Done():
		}
	}
	s.nodes[2].stop()
	for range 50 {
		body, err := get(s.client.Dial, "http://10.43.0.1/")
		if err != nil || body == "10.64.3.9" {
			t.Fatalf("got %q, %v after the death of n3", body, err)
		}
	}
}

func TestAConnectionInMidFlowIsResetWhenItsNodeDies(t *testing.T) {
	s := newServices(t)
	l := listen(t, s.nodes[2].pod(t, "10.64.3.10"), ":9")
	near, err := s.client.Dial(t.Context(), "tcp", "10.64.3.10:9")
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	flowing := make(chan struct{})
	go func() {
		once := sync.OnceFunc(func() { close(flowing) })
		for {
			if _, err := far.Write(make([]byte, 32<<10)); err != nil {
				return
			}
			once()
		}
	}()
	<-flowing
	go s.nodes[2].stop()
	if _, err := io.Copy(io.Discard, near); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow ended with %v, want ECONNRESET: a cut answer must not pass for a whole one", err)
	}
}

func TestNodePortsSpreadOverTheClusterUnlessTheirPolicyIsLocal(t *testing.T) {
	s := newServices(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no kernel loopback here")
	}
	port := int32(free.Addr().(*net.TCPAddr).Port)
	_ = free.Close()
	api := fake.NewSimpleClientset(web(port, corev1.ServiceExternalTrafficPolicyCluster), webSlice())
	p, err := proxy.New(proxy.Config{
		API: api, Table: s.tables[1], Dial: s.nodes[1].net.Dial, Bind: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var d net.Dialer
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	seen := map[string]bool{}
	eventually(t, "the node port reaches pods of all three nodes", func() bool {
		if body, err := get(d.DialContext, url); err == nil {
			seen[body] = true
		}
		return len(seen) == 3
	})
	changes := 0
	eventually(t, "the node port reaches the pod of its own node alone", func() bool {
		local := web(port, corev1.ServiceExternalTrafficPolicyLocal)
		changes++ // written each time: the API in memory forgets who has listed and does not watch yet
		local.Annotations = map[string]string{"change": fmt.Sprint(changes)}
		if _, err := api.CoreV1().Services("default").Update(t.Context(), local, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if body, err := get(d.DialContext, url); err != nil || body != "10.64.2.9" {
				return false
			}
		}
		return true
	})
}
