package keyfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"copepod/plane/auth/keyfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "keyfile")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	key, err := keyfile.LoadOrCreate(filepath.Join(dir, "secret.key"), func() ([]byte, error) { return []byte("s3cret"), nil })
	fmt.Println(string(key), err)
	// Output: s3cret <nil>
}

func secretDir(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := keyfile.Dir(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFilesAndDirectoriesAreTheOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	path := filepath.Join(t.TempDir(), "a", "b", "k")
	if err := keyfile.Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s: got %04o, want %04o", p, got, want)
		}
	}
}

func TestSecretsThatOthersCanReachAreRefusedWithTheCommandThatMends(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o644, 0o666} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			path := filepath.Join(secretDir(t), "k")
			if err := keyfile.Write(path, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := keyfile.Read(path)
			var wide *keyfile.PermissionError
			if !errors.As(err, &wide) {
				t.Fatalf("got %v, want *PermissionError", err)
			}
			if want := "chmod 0600 " + path; !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want it to say %q", err, want)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		dir := secretDir(t)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var wide *keyfile.PermissionError
		if err := keyfile.Dir(dir); !errors.As(err, &wide) || wide.Want != 0o700 {
			t.Errorf("got %v, want *PermissionError for 0700", err)
		}
	})
}

func TestWriteReplacesWholeAndLeavesNothingBehind(t *testing.T) {
	path := filepath.Join(secretDir(t), "k")
	for _, content := range []string{"first, longer", "second"} {
		if err := keyfile.Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := keyfile.Read(path)
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("got %d files, %v, want the secret only", len(entries), err)
	}
}

func TestCreateNeverReplaces(t *testing.T) {
	path := filepath.Join(secretDir(t), "k")
	if err := keyfile.Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if got, _ := keyfile.Read(path); string(got) != "first" {
		t.Errorf("got %q, want %q", got, "first")
	}
}

func TestAllThatStartAtOnceGetTheSameSecret(t *testing.T) {
	path := filepath.Join(secretDir(t), "k")
	got := make([][]byte, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			got[i], err = keyfile.LoadOrCreate(path, func() ([]byte, error) { return fmt.Appendf(nil, "of %d", i), nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if !bytes.Equal(got[i], got[0]) {
			t.Errorf("start %d: got %q, want %q", i, got[i], got[0])
		}
	}
}

func TestWhatIsNoKeyFileIsRefused(t *testing.T) {
	dir := secretDir(t)
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{big, dir} {
		if _, err := keyfile.Read(path); err == nil {
			t.Errorf("read %s: got no error", path)
		}
	}
}
