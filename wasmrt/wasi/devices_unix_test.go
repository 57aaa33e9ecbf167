//go:build unix

package wasi

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestDevicesAndPipesAreNotForGuests(t *testing.T) {
	g, dir := scratch(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skip("this system has no named pipes:", err)
	}
	if _, e := g.open(rootFD, "pipe", 0, rightRead, 0); e != errNotPermitted {
		t.Errorf("read a pipe: got %v, want perm", e)
	}
	if _, e := g.open(rootFD, "pipe", 0, rightRead|rightWrite, 0); e != errNotPermitted {
		t.Errorf("read and write a pipe: got %v, want perm", e)
	}
}
