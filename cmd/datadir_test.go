package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirectoryIsForOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	unlock, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "uses it; stop that one first") {
		t.Errorf("second lock = %v, want one that names the holder and the way out", err)
	}
	unlock()
	unlock, err = lockDataDir(dir)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}

func TestDataDirectoryOfANewerVersionIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"2\n": "written by a newer version", "x\n": "is damaged"} {
		if err := os.WriteFile(filepath.Join(dir, "format"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("format %q: %v, want %q", content, err, want)
		}
	}
}

func TestDataDirectoryThatOthersMayReadIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o755 {
		t.Skip("this system has no modes")
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("lock = %v, want the command that mends it", err)
	}
}
