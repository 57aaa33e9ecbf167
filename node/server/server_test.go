package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/identity"
	"copepod/node/logs"
	"copepod/node/pods"
	"copepod/node/runtime"
	"copepod/node/server"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) issue(t *testing.T, user string, groups ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: user, Organization: groups}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// house is a node with one pod.
type house struct {
	opts     logs.Options
	previous bool
	block    chan struct{}
}

func (h *house) Pods() []*v1.Pod {
	return []*v1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}}
}

func (h *house) Usage() []pods.Usage {
	return []pods.Usage{{Pod: h.Pods()[0], Containers: []pods.ContainerUsage{{Name: "app", Stats: runtime.Stats{CPU: 3 * time.Second, MemoryBytes: 4096}}}}}
}

func (h *house) ReadLogs(ctx context.Context, out io.Writer, namespace, name, container string, previous bool, opts logs.Options) error {
	h.opts, h.previous = opts, previous
	switch {
	case name != "web" || namespace != "default":
		return fmt.Errorf("pod %q in namespace %q: %w", name, namespace, pods.ErrNotFound)
	case container == "waiting":
		return &pods.WaitingError{Container: container, Pod: name, Reason: "ContainerCreating"}
	case container != "app":
		return &pods.NoContainerError{Container: container, Pod: name}
	}
	_, _ = io.WriteString(out, "hello\n")
	if opts.Follow {
		out.(http.Flusher).Flush()
		select {
		case <-h.block:
			return errors.New("disk is on fire")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serve runs a server and returns a way to ask it as somebody.
func serve(t *testing.T, h *house) func(user string, groups ...string) func(path string) (*http.Response, error) {
	t.Helper()
	ca := newAuthority(t)
	serving := ca.issue(t, "node")
	id, err := identity.New(identity.Config{
		Name: "n1", ClientCA: ca.pool(), Callers: []string{"apiserver"},
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serving, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	s, err := server.New(server.Config{Listener: l, TLS: id.ServerTLS(), Gate: id, Node: "n1", Pods: h, Images: http.NotFoundHandler(), Metrics: prometheus.NewRegistry(), Requests: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run, want nil", err)
		}
	})
	return func(user string, groups ...string) func(path string) (*http.Response, error) {
		cfg := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}
		if user != "" {
			cfg.Certificates = []tls.Certificate{ca.issue(t, user, groups...)}
		}
		transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return func(path string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.Addr().String()+path, nil)
			if err != nil {
				return nil, err
			}
			return transport.RoundTrip(req)
		}
	}
}

func body(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(data))
}

func TestOnlyTheAPIServerAndAdministratorsAreServed(t *testing.T) {
	as := serve(t, &house{})
	if resp, err := as("")("/healthz"); err == nil {
		_ = resp.Body.Close()
		t.Errorf("got %s without a certificate, want a failed handshake", resp.Status)
	}
	for _, row := range []struct {
		user, group string
		want        int
	}{
		{"apiserver", "", 200}, {"admin", "system:masters", 200}, {"system:node:n2", "system:nodes", 403}, {"mallory", "", 403},
	} {
		resp, err := as(row.user, row.group)("/healthz")
		if code, _ := body(t, resp, err); code != row.want {
			t.Errorf("%s: got %d, want %d", row.user, code, row.want)
		}
	}
}

func TestNodesMayAskForImagesAndForNothingElse(t *testing.T) {
	as := serve(t, &house{})
	for _, row := range []struct {
		user, group, path string
		want              int
	}{
		{"system:node:n2", "system:nodes", "/v2/", 404}, {"system:node:n2", "system:nodes", "/pods", 403},
		{"system:node:n2", "", "/v2/", 403}, {"mallory", "system:nodes", "/v2/", 403}, {"apiserver", "", "/v2/", 404},
	} {
		resp, err := as(row.user, row.group)(row.path)
		if code, _ := body(t, resp, err); code != row.want {
			t.Errorf("%s of %q at %s: got %d, want %d", row.user, row.group, row.path, code, row.want)
		}
	}
}

func TestLogsAreAnsweredWithTheStatusThatTheyDeserve(t *testing.T) {
	h := &house{}
	get := serve(t, h)("apiserver")
	for _, row := range []struct {
		path string
		code int
		text string
	}{
		{"/containerLogs/default/web/app", 200, "hello"},
		{"/containerLogs/default/web/app?tailLines=0", 200, "hello"},
		{"/containerLogs/default/web/nobody", 400, "container nobody is not valid for pod web"},
		{"/containerLogs/default/web/waiting", 400, `container "waiting" in pod "web" is waiting to start: ContainerCreating`},
		{"/containerLogs/default/none/app", 404, `pod "none" in namespace "default": not found`},
		{"/containerLogs/default/web/app?tailLines=x", 400, `tailLines "x": want a number of at least 0`},
		{"/containerLogs/default/web/app?limitBytes=0", 400, `limitBytes "0": want a number of at least 1`},
		{"/containerLogs/default/web/app?follow=maybe", 400, `follow "maybe": want true or false`},
		{"/containerLogs/default/web/app?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 400, "at most one of sinceTime or sinceSeconds may be specified"},
		{"/containerLogs/default/web/app?stream=Both", 400, `stream "Both": want All, Stdout or Stderr`},
		{"/containerLogs/default/web", 404, "404 page not found"},
	} {
		resp, err := get(row.path)
		if code, text := body(t, resp, err); code != row.code || text != row.text {
			t.Errorf("%s: got %d %q, want %d %q", row.path, code, text, row.code, row.text)
		}
	}
	resp, err := get("/containerLogs/default/web/app?previous=true&timestamps=true&tailLines=5&limitBytes=9&sinceTime=2026-01-01T00:00:00Z&stream=Stderr")
	body(t, resp, err)
	if o := h.opts; !h.previous || !o.Timestamps || *o.Tail != 5 || o.Limit != 9 || o.Since.Year() != 2026 || o.Stream != logs.Stderr {
		t.Errorf("got options %+v, previous %v, want what was asked for", o, h.previous)
	}
}

func TestAFollowedLogArrivesBeforeItEndsAndIsCutWhenItBreaks(t *testing.T) {
	h := &house{block: make(chan struct{})}
	get := serve(t, h)("apiserver")
	resp, err := get("/containerLogs/default/web/app?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, 6)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "hello\n" {
		t.Errorf("got %q, %v, want the line before the log ends", first, err)
	}
	close(h.block)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("got a clean end of a log that broke, want an error")
	}
}

func TestRequestsAtOnceAreBounded(t *testing.T) {
	h := &house{block: make(chan struct{})}
	get := serve(t, h)("apiserver")
	for range 2 {
		resp, err := get("/containerLogs/default/web/app?follow=true")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
	}
	resp, err := get("/healthz")
	if code, _ := body(t, resp, err); code != http.StatusTooManyRequests {
		t.Errorf("got %d, want %d", code, http.StatusTooManyRequests)
	}
	close(h.block)
}

func TestPodsAndWhatTheyUseAreListed(t *testing.T) {
	get := serve(t, &house{})("admin", "system:masters")
	resp, err := get("/pods")
	_, text := body(t, resp, err)
	var list v1.PodList
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Items) != 1 || list.Items[0].Name != "web" || list.Kind != "PodList" {
		t.Errorf("got %s (%v), want a PodList of web", text, err)
	}
	resp, err = get("/stats/summary")
	_, text = body(t, resp, err)
	for _, want := range []string{`"nodeName":"n1"`, `"podRef":{"name":"web"`, `"usageCoreNanoSeconds":3000000000`, `"workingSetBytes":4096`} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want it to contain %s", text, want)
		}
	}
	resp, err = get("/metrics")
	if code, _ := body(t, resp, err); code != 200 {
		t.Errorf("got %d for /metrics, want 200", code)
	}
}
