package registry_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"copepod/registry"
)

// beside is a store that knows one peer.
func beside(t *testing.T, peer *registry.Store) registry.Shared {
	srv := httptest.NewTLSServer(peer.Handler())
	t.Cleanup(srv.Close)
	p := registry.Peer{Name: "peer", Host: strings.TrimPrefix(srv.URL, "https://"), Client: srv.Client()}
	return registry.Shared{Store: open(t), Peers: func() []registry.Peer { return []registry.Peer{p} }}
}

func TestImageWithoutAHostComesFromAnotherMachine(t *testing.T) {
	there := open(t)
	packed, err := there.Pack(t.Context(), wasm, registry.PackConfig{Ref: "team/hello:v1"})
	if err != nil {
		t.Fatal(err)
	}
	here := beside(t, there)
	for _, name := range []string{"team/hello:v1", "team/hello@" + string(packed.Digest)} {
		got, err := here.Pull(t.Context(), name, registry.RemoteOptions{})
		if err != nil || got.Digest != packed.Digest {
			t.Fatalf("%s: got %v, %v; want %s", name, got.Digest, err, packed.Digest)
		}
	}
	module, err := here.Module(t.Context(), packed.Digest)
	if err != nil || string(module) != string(wasm) {
		t.Errorf("got %d bytes, %v; want the module", len(module), err)
	}
}

func TestPrivateAndUnknownImagesStayWhereTheyAre(t *testing.T) {
	there := open(t)
	private, err := there.Pack(t.Context(), wasm, registry.PackConfig{Ref: "registry.example.com/secret:v1"})
	if err != nil {
		t.Fatal(err)
	}
	here := beside(t, there)
	for _, name := range []string{"secret:v1", "secret@" + string(private.Digest), "nothing:v1"} {
		if _, err := here.Pull(t.Context(), name, registry.RemoteOptions{}); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	for _, path := range []string{"/v2/secret/blobs/" + string(private.Layer), "/v2/registry.example.com/secret/manifests/v1", "/v2/../../etc/passwd", "/v2/a/b/c/d", "/v2//manifests/"} {
		w := httptest.NewRecorder()
		there.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code == 200 {
			t.Errorf("%s: got 200 and %d bytes", path, w.Body.Len())
		}
	}
}

func TestPeerThatLiesAboutContentIsNotBelieved(t *testing.T) {
	h := &hub{}
	host := serve(t, h)
	there := open(t)
	packed, err := there.Pack(t.Context(), wasm, registry.PackConfig{Ref: host + "/app:v1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Push(t.Context(), host+"/app:v1", registry.RemoteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.blobs[string(packed.Layer)] = append([]byte("x"), wasm[1:]...)
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	here := registry.Shared{Store: open(t), Peers: func() []registry.Peer {
		return []registry.Peer{{Name: "liar", Host: strings.TrimPrefix(srv.URL, "https://"), Client: srv.Client()}}
	}}
	if _, err := here.Pull(t.Context(), "app:v1", registry.RemoteOptions{}); err == nil {
		t.Error("got a module that is not what its digest says")
	}
}
