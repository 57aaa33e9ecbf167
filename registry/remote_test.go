package registry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"copepod/registry"
)

// hub is an OCI distribution registry of one repository, in memory.
type hub struct {
	mu        sync.Mutex
	blobs     map[string][]byte // digest → content
	manifests map[string][]byte // tag or digest → content
	user      string            // wanted of basic auth, when set
}

func serve(t *testing.T, h *hub) (host string) {
	h.blobs, h.manifests = map[string][]byte{}, map[string][]byte{}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func sum(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if user, _, _ := r.BasicAuth(); user != h.user {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, path, _ := strings.Cut(r.URL.Path, "/v2/app/")
	kind, name, _ := strings.Cut(path, "/")
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/app/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && kind == "blobs":
		body, _ := io.ReadAll(r.Body)
		h.blobs[r.URL.Query().Get("digest")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		h.manifests[name], h.manifests[sum(body)] = body, body
		w.WriteHeader(http.StatusCreated)
	default:
		content, ok := h.blobs[name]
		if kind == "manifests" {
			content, ok = h.manifests[name]
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Docker-Content-Digest", sum(content))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}
}

func TestPushedImageIsPulledWithTheSameDigest(t *testing.T) {
	ctx, h := t.Context(), &hub{user: "me"}
	name := serve(t, h) + "/app:v1"
	opts := registry.RemoteOptions{Username: "me", Password: "x"}
	here, there := open(t), open(t)
	packed, err := here.Pack(ctx, wasm, registry.PackConfig{Ref: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Push(ctx, name, opts); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{name, strings.TrimSuffix(name, ":v1") + "@" + string(packed.Digest)} {
		got, err := there.Pull(ctx, ref, opts)
		if err != nil || got.Digest != packed.Digest {
			t.Fatalf("Pull(%s) = %s, %v; want %s", ref, got.Digest, err, packed.Digest)
		}
	}
	if code, err := there.Module(ctx, packed.Digest); err != nil || string(code) != string(wasm) {
		t.Errorf("Module = %q, %v", code, err)
	}
	if _, err := there.Pull(ctx, name, registry.RemoteOptions{}); err == nil {
		t.Error("a pull without credentials went through")
	}
}

func TestPullOfWhatIsNotThereIsNotFound(t *testing.T) {
	name := serve(t, &hub{}) + "/app:v1"
	if _, err := open(t).Pull(t.Context(), name, registry.RemoteOptions{}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Pull = %v, want ErrNotFound", err)
	}
	if _, err := open(t).Pull(t.Context(), "app:v1", registry.RemoteOptions{}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Pull of a local name = %v, want ErrNotFound", err)
	}
}

func TestPullRefusesWhatIsNoModule(t *testing.T) {
	const layer = `{"mediaType":"%s","digest":"sha256:93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476","size":%d}`
	manifest := func(layers ...string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476","size":8},"layers":[` + strings.Join(layers, ",") + `]}`
	}
	for _, tt := range []struct{ name, manifest, want string }{
		{"a container image", manifest(fmt.Sprintf(layer, "application/vnd.oci.image.layer.v1.tar+gzip", 9)), "OCI runtime"},
		{"two layers", manifest(fmt.Sprintf(layer, "application/wasm", 8), fmt.Sprintf(layer, "application/wasm", 8)), "2 layers"},
		{"a module of a terabyte", manifest(fmt.Sprintf(layer, "application/wasm", 1<<40)), "bytes, want 8 to"},
		{"no JSON", "hello", "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &hub{}
			name := serve(t, h) + "/app:v1"
			h.manifests["v1"], h.manifests[sum([]byte(tt.manifest))] = []byte(tt.manifest), []byte(tt.manifest)
			_, err := open(t).Pull(t.Context(), name, registry.RemoteOptions{})
			var bad *registry.MediaTypeError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, tt.want) {
				t.Errorf("Pull = %v, want a reason with %q", err, tt.want)
			}
		})
	}
}

func TestPulledModuleMustHashToItsDigest(t *testing.T) {
	h := &hub{}
	name := serve(t, h) + "/app:v1"
	here := open(t)
	img, err := here.Pack(t.Context(), wasm, registry.PackConfig{Ref: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Push(t.Context(), name, registry.RemoteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.blobs[string(img.Layer)] = []byte("\x00asm\x02\x00\x00\x00")
	if _, err := open(t).Pull(t.Context(), name, registry.RemoteOptions{}); err == nil {
		t.Error("a forged module was accepted")
	}
}
