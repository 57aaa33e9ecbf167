package redteam

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatAMachineKeepsIsReadableByItsUserAlone(t *testing.T) {
	for _, m := range victim.machines() {
		err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it was there a moment ago
			}
			fi, err := d.Info()
			if err != nil {
				return nil
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if got := fi.Mode().Perm(); got&^want != 0 {
				t.Errorf("%s: %s has mode %04o, want at most %04o", m.name, path, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDataDirectoryThatOthersMayReadIsRefusedByEveryVerbThatRunsAMachine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o750, 0o705, 0o777} {
		for _, args := range [][]string{{"up"}, {"join", victim.n1.at(apiPort), "--token", "cpd1.x"}} {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--data-dir", dir, "--bind", victim.addr(120).String())
			out, err := exec.CommandContext(t.Context(), self, args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "chmod 700") {
				t.Errorf("%s in a directory of mode %04o: %v, %s; want it refused with the command that mends it", args[0], mode, err, out)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("%s left %v, %v in a directory that it refused", args[0], left, err)
			}
		}
	}
}
