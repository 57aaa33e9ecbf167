package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/storage/value"

	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/seal"
)

func Example() {
	dir, err := os.MkdirTemp("", "seal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	keys, err := seal.LoadOrCreate(filepath.Join(dir, "keys"))
	if err != nil {
		fmt.Println(err)
		return
	}
	transformer := keys.Transformer()
	sealed, err := transformer.TransformToStorage(context.Background(), []byte("password"), nil)
	fmt.Println(bytes.Contains(sealed, []byte("password")), err)
	plain, stale, err := transformer.TransformFromStorage(context.Background(), sealed, nil)
	fmt.Println(string(plain), stale, err)
	// Output:
	// false <nil>
	// password false <nil>
}

func newKeys(t testing.TB) (*seal.Keys, string) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := seal.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	return keys, dir
}

func sealed(t testing.TB, keys *seal.Keys, plain string) []byte {
	out, err := keys.Transformer().TransformToStorage(t.Context(), []byte(plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSealedValuesNameTheirKeyAndHideTheirContent(t *testing.T) {
	keys, _ := newKeys(t)
	a, b := sealed(t, keys, "password"), sealed(t, keys, "password")
	if want := seal.Prefix + keys.IDs()[0] + ":"; !bytes.HasPrefix(a, []byte(want)) {
		t.Errorf("got %q, want prefix %q", a, want)
	}
	if bytes.Contains(a, []byte("password")) {
		t.Error("the content is readable")
	}
	if bytes.Equal(a, b) {
		t.Error("one content seals to the same bytes twice: equal Secrets would show")
	}
}

func TestSecondStartOpensWhatTheFirstSealed(t *testing.T) {
	keys, dir := newKeys(t)
	value := sealed(t, keys, "password")
	again, err := seal.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, stale, err := again.Transformer().TransformFromStorage(t.Context(), value, nil)
	if err != nil || stale || string(got) != "password" {
		t.Errorf("got %q, stale %v, %v", got, stale, err)
	}
}

func TestRotationLeavesOldValuesReadableButStale(t *testing.T) {
	keys, dir := newKeys(t)
	old := sealed(t, keys, "password")
	rotated, err := seal.Rotate(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, stale, err := rotated.Transformer().TransformFromStorage(t.Context(), old, nil)
	if err != nil || !stale || string(got) != "password" {
		t.Errorf("old value: got %q, stale %v, %v, want it stale", got, stale, err)
	}
	_, stale, err = rotated.Transformer().TransformFromStorage(t.Context(), sealed(t, rotated, "x"), nil)
	if err != nil || stale {
		t.Errorf("new value: got stale %v, %v, want it fresh", stale, err)
	}

	retired := rotated.Retire(func(string) bool { return false })
	if err := seal.Store(dir, retired); err != nil {
		t.Fatal(err)
	}
	last, err := seal.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = last.Transformer().TransformFromStorage(t.Context(), old, nil)
	var unknown *seal.UnknownKeyError
	if !errors.As(err, &unknown) || unknown.ID != keys.IDs()[0] {
		t.Errorf("value of a retired key: got %v, want *UnknownKeyError for %s", err, keys.IDs()[0])
	}
}

func TestDamagedValuesSayWhatIsWrong(t *testing.T) {
	keys, _ := newKeys(t)
	good := sealed(t, keys, "password")
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	other, _ := newKeys(t)
	for _, tt := range []struct {
		name  string
		value []byte
		want  error
	}{
		{"empty", nil, seal.ErrNotSealed},
		{"plain JSON", []byte(`{"kind":"Secret"}`), seal.ErrNotSealed},
		{"prefix only", []byte(seal.Prefix), seal.ErrNotSealed},
		{"endless key id", []byte(seal.Prefix + strings.Repeat("a", 1000)), seal.ErrNotSealed},
		{"a bit flipped", flipped, seal.ErrDamaged},
		{"cut in the middle", good[:len(good)-3], seal.ErrDamaged},
		{"cut in the nonce", good[:len(seal.Prefix)+len(keys.IDs()[0])+5], seal.ErrDamaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := keys.Transformer().TransformFromStorage(t.Context(), tt.value, value.DefaultContext("/registry/core/secrets/default/db"))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), "/registry/core/secrets/default/db") {
				t.Errorf("got %q, want it to name the value", err)
			}
		})
	}
	t.Run("key of another cluster", func(t *testing.T) {
		_, _, err := other.Transformer().TransformFromStorage(t.Context(), good, nil)
		var unknown *seal.UnknownKeyError
		if !errors.As(err, &unknown) {
			t.Errorf("got %v, want *UnknownKeyError", err)
		}
	})
}

func TestKeyFileThatOthersCanReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	_, dir := newKeys(t)
	if err := os.Chmod(filepath.Join(dir, seal.FileName), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := seal.LoadOrCreate(dir)
	var wide *keyfile.PermissionError
	if !errors.As(err, &wide) {
		t.Errorf("got %v, want *keyfile.PermissionError", err)
	}
}

func TestDamagedKeyFilesAreRefusedWithoutTellingKeys(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", "first line"},
		{"noise", "noise\n", "first line"},
		{"no keys", "copepod seal keys 1\n", "no keys"},
		{"an empty line", "copepod seal keys 1\n\n", "line 2"},
		{"short key", "copepod seal keys 1\nk1 " + key[:20] + "\n", "line 2"},
		{"bad id", "copepod seal keys 1\nK:1 " + key + "\n", "line 2"},
		{"id twice", "copepod seal keys 1\nk1 " + key + "\nk1 " + key + "\n", `key "k1" is there twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := seal.Parse([]byte(tt.content))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), key[:20]) {
				t.Errorf("got %q: it tells the key", err)
			}
		})
	}
	if _, err := seal.Parse([]byte("copepod seal keys 2\n")); !errors.Is(err, seal.ErrVersion) {
		t.Errorf("newer file: got %v, want ErrVersion", err)
	}
}

func FuzzOpen(f *testing.F) {
	keys, _ := newKeys(f)
	good := sealed(f, keys, "password")
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte(seal.Prefix + "k:"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := keys.Transformer().TransformFromStorage(t.Context(), data, nil)
		if err == nil && (!bytes.Equal(data, good) || string(got) != "password") {
			t.Errorf("opened a forgery as %q", got)
		}
	})
}

func FuzzParse(f *testing.F) {
	keys, _ := newKeys(f)
	f.Add(keys.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := seal.Parse(data)
		if err != nil {
			return
		}
		again, err := seal.Parse(keys.Encode())
		if err != nil || !bytes.Equal(again.Encode(), keys.Encode()) {
			t.Errorf("does not survive Encode: %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	keys, _ := newKeys(b)
	plain := make([]byte, 1200)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := keys.Transformer().TransformToStorage(b.Context(), plain, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	keys, _ := newKeys(b)
	value := sealed(b, keys, strings.Repeat("x", 1200))
	b.SetBytes(1200)
	for b.Loop() {
		if _, _, err := keys.Transformer().TransformFromStorage(b.Context(), value, nil); err != nil {
			b.Fatal(err)
		}
	}
}
