package wasi

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxScanDepth is how deep directories are looked into; each level holds a
// descriptor while it is.
const maxScanDepth = 128

// errFull ends a scan: there is more than is allowed, or than can be counted.
var errFull = errors.New("the volume is full")

// scan counts what lies at path. It looks at no more names than are allowed.
func (q *Quota) scan(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	c := census{most: q.most, seen: map[inode]bool{}}
	if info.IsDir() {
		var root *os.Root
		if root, err = os.OpenRoot(path); err != nil {
			return err
		}
		err = c.directory(root, 0)
	} else {
		err = c.count(info)
	}
	if errors.Is(err, errFull) {
		q.used = q.most
		return nil
	}
	q.used = c.found
	return err
}

// census is one scan.
type census struct {
	most, found Usage
	seen        map[inode]bool // files with several names
}

// directory counts what is in a directory, and closes it. What vanishes
// meanwhile is nobody's.
func (c *census) directory(root *os.Root, depth int) error {
	defer root.Close()
	if depth > maxScanDepth {
		return errFull
	}
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(listingBatch)
		for _, e := range entries {
			if err := c.entry(root, e.Name(), depth); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *census) entry(root *os.Root, name string, depth int) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if err := c.count(info); err != nil || !info.IsDir() {
		return err
	}
	below, err := root.OpenRoot(filepath.Clean(name))
	if err != nil {
		return err
	}
	return c.directory(below, depth+1)
}

func (c *census) count(info fs.FileInfo) error {
	if c.found.Names++; c.found.Names > c.most.Names {
		return errFull
	}
	if info.IsDir() {
		return nil
	}
	if st := filestatOf(info); st.links > 1 {
		key := inode{st.dev, st.ino}
		if c.seen[key] {
			return nil
		}
		c.seen[key] = true
	}
	c.found.Bytes += info.Size()
	return nil
}
