//go:build unix

package wasi

import (
	"os"

	"golang.org/x/sys/unix"
)

// Links and renames, between one directory handle or two: each parent is opened
// in confinement, and the system call is made on the two single names, which
// it does not follow. (os.Root's own Rename is for one handle, and gives other
// errors than rename(2).)

func link(from, to place) error {
	return onParents(from, to, func(a int, old string, b int, new string) error {
		return unix.Linkat(a, old, b, new, 0)
	})
}

func rename(from, to place) error {
	return onParents(from, to, unix.Renameat)
}

func onParents(from, to place, do func(a int, old string, b int, new string) error) error {
	oldParent, old := split(from.path)
	newParent, name := split(to.path)
	a, err := from.dir.root.Open(oldParent)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := to.dir.root.Open(newParent)
	if err != nil {
		return err
	}
	defer b.Close()
	return onBoth(a, b, func(a, b int) error { return do(a, old, b, name) })
}

// onBoth calls do with both descriptors held open.
func onBoth(from, to *os.File, do func(a, b int) error) error {
	rawA, err := from.SyscallConn()
	if err != nil {
		return err
	}
	rawB, err := to.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = rawA.Control(func(a uintptr) {
		if err := rawB.Control(func(b uintptr) { done = do(int(a), int(b)) }); err != nil {
			done = err
		}
	})
	if err != nil {
		return err
	}
	return done
}
