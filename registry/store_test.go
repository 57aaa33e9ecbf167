package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"copepod/registry"
)

// wasm is the smallest valid module: magic and version.
var wasm = []byte("\x00asm\x01\x00\x00\x00")

func open(t testing.TB) *registry.Store {
	t.Helper()
	s, err := registry.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPackedModuleComesBackByNameAndByDigest(t *testing.T) {
	ctx, s := t.Context(), open(t)
	img, err := s.Pack(ctx, wasm, registry.PackConfig{Ref: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	if img.Ref != "hello:latest" || img.OS != "wasip1" || img.Size != 8 {
		t.Errorf("packed as %+v", img)
	}
	for _, name := range []string{"hello", "hello:latest", "hello@" + string(img.Digest), string(img.Digest)} {
		got, err := s.Resolve(ctx, name)
		if err != nil || got.Digest != img.Digest {
			t.Errorf("Resolve(%q) = %v, %v; want %s", name, got.Digest, err, img.Digest)
		}
	}
	code, err := s.Module(ctx, img.Digest)
	if err != nil || string(code) != string(wasm) {
		t.Errorf("Module = %q, %v", code, err)
	}
}

func TestEqualModulesHaveEqualDigests(t *testing.T) {
	a, err := open(t).Pack(t.Context(), wasm, registry.PackConfig{Ref: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(t).Pack(t.Context(), wasm, registry.PackConfig{Ref: "b:2"})
	if err != nil || a.Digest != b.Digest {
		t.Errorf("digests %s and %s, %v; want equal", a.Digest, b.Digest, err)
	}
}

func TestNameMovesToTheNewestModule(t *testing.T) {
	ctx, s := t.Context(), open(t)
	if _, err := s.Pack(ctx, wasm, registry.PackConfig{Ref: "hello:v1"}); err != nil {
		t.Fatal(err)
	}
	second, err := s.Pack(ctx, append(wasm, 0, 2, 1, 'x'), registry.PackConfig{Ref: "hello:v1"})
	if err != nil {
		t.Fatal(err)
	}
	images, err := s.Images(ctx)
	if err != nil || len(images) != 1 || images[0].Digest != second.Digest {
		t.Errorf("Images = %+v, %v; want only %s", images, err, second.Digest)
	}
}

func TestUnknownImageIsNotFound(t *testing.T) {
	s := open(t)
	for _, name := range []string{"hello:v9", "hello@sha256:" + strings.Repeat("0", 64)} {
		if _, err := s.Resolve(t.Context(), name); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Resolve(%q) = %v, want ErrNotFound", name, err)
		}
	}
}

func TestTwoStoresOnOneDirectoryKeepEachOthersNames(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			s, err := registry.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.Pack(t.Context(), wasm, registry.PackConfig{Ref: fmt.Sprintf("app:%d", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := registry.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	images, err := s.Images(t.Context())
	if err != nil || len(images) != 16 {
		t.Errorf("%d names, %v; want 16", len(images), err)
	}
}

func TestDamagedModuleIsNotHandedOut(t *testing.T) {
	dir := t.TempDir()
	s, err := registry.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Pack(t.Context(), wasm, registry.PackConfig{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(string(img.Layer), "sha256:"))
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("\x00asm\x02\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Module(t.Context(), img.Digest); err == nil {
		t.Errorf("Module = %q, want an error that names the digest", code)
	}
}

func TestDamagedIndexSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	s, err := registry.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Images(t.Context()); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("Images = %v, want the way out", err)
	}
}

func TestReferencesAreReadAsTheDistributionSpecHasThem(t *testing.T) {
	dgst := "sha256:" + strings.Repeat("ab", 32)
	for _, tt := range []struct{ in, want, reason string }{
		{in: "hello", want: "hello:latest"},
		{in: "team/hello:v1", want: "team/hello:v1"},
		{in: "localhost/hello", want: "localhost/hello:latest"},
		{in: "example.com:5000/a/b:c", want: "example.com:5000/a/b:c"},
		{in: "hello:v1@" + dgst, want: "hello@" + dgst},
		{in: "", reason: "empty"},
		{in: "Hello", reason: "not a repository name"},
		{in: "hello:", reason: "tag after ':' is empty"},
		{in: "hello:a b", reason: "not a tag"},
		{in: "hello@sha256:12", reason: "digest is malformed"},
		{in: "../x", reason: "not a re"},
		{in: strings.Repeat("a", 2000), reason: "longer than"},
	} {
		ref, err := registry.ParseReference(tt.in)
		var bad *registry.ReferenceError
		switch {
		case tt.reason == "" && (err != nil || ref.String() != tt.want):
			t.Errorf("ParseReference(%q) = %v, %v; want %s", tt.in, ref, err, tt.want)
		case tt.reason != "" && (!errors.As(err, &bad) || !strings.Contains(bad.Reason, tt.reason)):
			t.Errorf("ParseReference(%q) = %v, want a reason with %q", tt.in, err, tt.reason)
		}
	}
}

func FuzzParseReferenceIsStableOnItsOwnOutput(f *testing.F) {
	for _, s := range []string{"hello", "a.b/c:d", "x@sha256:" + strings.Repeat("0", 64), "::", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := registry.ParseReference(s)
		if err != nil {
			return
		}
		again, err := registry.ParseReference(ref.String())
		if err != nil || again.String() != ref.String() {
			t.Errorf("%q → %q → %q, %v", s, ref, again, err)
		}
	})
}

func ExampleStore() {
	dir, _ := os.MkdirTemp("", "images")
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	store, _ := registry.Open(dir)
	image, _ := store.Pack(ctx, []byte("\x00asm\x01\x00\x00\x00"), registry.PackConfig{Ref: "hello:v1"})
	code, _ := store.Module(ctx, image.Digest)
	fmt.Println(image.Ref, image.OS, len(code))
	// Output: hello:v1 wasip1 8
}
