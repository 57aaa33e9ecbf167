package volume

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const dataLink = "..data"

// replace makes dir hold exactly the files of want, all at once: they are
// written to a directory of their own, to which the link ..data then points;
// every visible name is a link through ..data. Nothing is touched when dir holds
// them already.
func replace(dir string, want content) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old != "" && holds(filepath.Join(dir, old), want) {
		return nil
	}
	fresh, err := write(dir, want)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, "..data_tmp")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(fresh), temp); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := link(dir, want); err != nil {
		return err
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return nil
}

// write puts the files into a new directory below dir.
func write(dir string, want content) (string, error) {
	fresh, err := os.MkdirTemp(dir, "..set_")
	if err != nil {
		return "", err
	}
	for path, f := range want {
		full := filepath.Join(fresh, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return "", err
		}
		if err := os.Chmod(full, fs.FileMode(f.mode)&fs.ModePerm); err != nil { //nolint:gosec // nine bits
			return "", err
		}
	}
	return fresh, nil
}

// link makes the visible names of dir, and removes those that are no more.
func link(dir string, want content) error {
	names := map[string]bool{}
	for path := range want {
		first, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		names[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case names[name]:
			delete(names, name)
		case !strings.HasPrefix(name, ".."):
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name := range names {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// errDiffers ends a walk.
var errDiffers = errors.New("not the same files")

// holds says whether the directory has exactly these files.
func holds(dir string, want content) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f, ok := want[rel]
		if !ok || info.Mode().Perm() != fs.FileMode(f.mode)&fs.ModePerm { //nolint:gosec // nine bits
			return errDiffers
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(data, f.data) {
			return errDiffers
		}
		found++
		return nil
	})
	return err == nil && found == len(want)
}
