package enroll_test

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

// strange is a server with a certificate of the cluster's API that answers as it
// likes, and its address.
func strange(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	pair, err := one.ca.Server("kube-apiserver", certs.APIHosts(""))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(handler)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.Listener.Addr().String()
}

func TestJoinerGoesToThePlaneWhenAMemberHidItsAddress(t *testing.T) {
	asked := false
	address := strange(t, func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		w.WriteHeader(http.StatusMisdirectedRequest)
		_ = json.NewEncoder(w).Encode(enroll.Refusal{Code: enroll.CodeIndirect, Message: "go there", Servers: []string{"127.0.0.1:1", one.address}})
	})
	req := one.request(t, "indirect", one.token(t, join.Spec{}))
	req.Server = address
	if _, err := enroll.Join(t.Context(), req); err != nil || !asked {
		t.Errorf("got %v, asked first: %t", err, asked)
	}
}

func TestJoinerTriesAgainWhatPasses(t *testing.T) {
	tries := 0
	address := strange(t, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(enroll.Refusal{Code: enroll.CodeUnavailable, Message: "later"})
			return
		}
		one.enroll.Front(http.NotFoundHandler()).ServeHTTP(w, r)
	})
	req := one.request(t, "tries-again", one.token(t, join.Spec{}))
	req.Server = address
	if _, err := enroll.Join(t.Context(), req); err != nil || tries != 2 {
		t.Errorf("got %v after %d tries", err, tries)
	}
}

func TestJoinerKeepsNothingOfAnAnswerThatMakesNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"hangs up":            {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "broke off"},
		"another API":         {func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, "takes no machines in"},
		"an error of its own": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502 Bad Gateway"},
		"words":               {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, "cannot be read"},
		"nothing":             {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "makes no sense"},
		"without certificates": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"name":"puzzled","role":"node"}`))
		}, "lacks keys"},
		"a bad certificate": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"name":"puzzled","role":"node","client":"x"}`))
		}, "makes no sense"},
		"no end": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = w.Write([]byte(strings.Repeat(" ", 64<<10)))
			}
		}, "broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one.request(t, "puzzled", one.token(t, join.Spec{}))
			req.Server = strange(t, tt.answer)
			_, err := enroll.Join(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if _, err := enroll.Load(req.Dir); err == nil {
				t.Error("a membership is there")
			}
		})
	}
}

func TestServerWithoutTLSIsToldApart(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	req := one.request(t, "plain", one.token(t, join.Spec{}))
	req.Server = web.Listener.Addr().String()
	_, err := enroll.Join(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("got %v", err)
	}
}

func TestJoinerTellsTheSecretToNobodyButTheCluster(t *testing.T) {
	// Another server, at the address that was mistyped, listens to what it is told.
	heard := make(chan int, 1)
	pair, err := one.ca.Client("system:node:evil", []string{certs.NodesGroup}) // what a node of the cluster has
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	cert.Certificate = append(cert.Certificate, one.ca.Certificate().Raw)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			heard <- -1
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patient))
		n, _ := conn.Read(make([]byte, 1))
		heard <- n
	}()
	req := one.request(t, "naive", one.token(t, join.Spec{}))
	req.Server = ln.Addr().String()
	_, err = enroll.Join(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), join.ErrPin.Error()) {
		t.Errorf("got %v, want ErrPin", err)
	}
	if n := <-heard; n != 0 {
		t.Errorf("it heard %d bytes", n)
	}
}

func TestServerIsReadAsPeopleWriteIt(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":                "192.0.2.7:6443",
		"192.0.2.7:7000":           "192.0.2.7:7000",
		" https://192.0.2.7:1/ \n": "192.0.2.7:1",
		"plane.example":            "plane.example:6443",
		"2001:db8::1":              "[2001:db8::1]:6443",
		"[2001:db8::1]":            "[2001:db8::1]:6443",
		"[2001:db8::1]:7000":       "[2001:db8::1]:7000",
	} {
		if got, err := enroll.ParseServer(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":6443", "host:0", "host:99999", "host:", "a b", "user@host:1", "http://x:1/y", "1:2:3:4"} {
		if got, err := enroll.ParseServer(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	f.Add("192.0.2.7:6443")
	f.Add("https://[::1]:1/")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := enroll.ParseServer(in)
		if err != nil {
			return
		}
		if host, port, err := net.SplitHostPort(got); err != nil || host == "" || port == "" || port == "0" {
			t.Errorf("%q became %q", in, got)
		}
	})
}

func TestDamagedMembershipIsNotTakenForNone(t *testing.T) {
	m, req := one.machine(t, "damaged", join.RoleNode)
	m.Name = ""
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	_, err := enroll.Join(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), filepath.Base(req.Dir)) {
		t.Errorf("got %v", err)
	}
}
