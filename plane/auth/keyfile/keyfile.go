// Package keyfile keeps secrets in files: 0600, in directories of 0700, written
// whole or not at all, and refused when anyone else on the machine could have
// read them. It knows paths and permission bits; it never learns what a secret
// means.
//
//	key, err := keyfile.LoadOrCreate(filepath.Join(dir, "ca.key"), newKey)
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxSize bounds what Read takes in: keys, certificates and kubeconfigs are
// kilobytes, so anything larger is not one.
const maxSize = 1 << 20

// A PermissionError says that others than the owner can reach a secret. The
// secret must then be taken as known to them.
type PermissionError struct {
	Path string
	Mode fs.FileMode // as found
	Want fs.FileMode // 0600 for files, 0700 for directories
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("%s: mode %04o lets others than its owner in: run `chmod %04o %s`, and replace the key if others use this machine",
		e.Path, e.Mode.Perm(), e.Want.Perm(), e.Path)
}

// Dir makes path and its missing parents with mode 0700. An existing directory
// is accepted only if group and world have no rights to it.
func Dir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return checkMode(path, info.Mode(), 0o700)
}

// Read returns the secret at path. It returns *PermissionError if group or world
// can read or write it, and an error matching fs.ErrNotExist if there is none.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The open file is judged, not the path: a swap in between changes nothing.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := checkMode(path, info.Mode(), 0o600); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d bytes, not a key file", path, maxSize)
	}
	return data, nil
}

// Write replaces the secret at path. After a crash the old or the new content is
// there, never a part.
func Write(path string, data []byte) error {
	tmp, err := stage(path, data)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Create writes the secret at path if there is none yet; an existing file gives
// an error matching fs.ErrExist and stays as it was.
func Create(path string, data []byte) error {
	tmp, err := stage(path, data)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// LoadOrCreate reads the secret at path, or stores and returns what fresh makes.
// Of several processes that start at once all return the same secret.
func LoadOrCreate(path string, fresh func() ([]byte, error)) ([]byte, error) {
	data, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = fresh(); err != nil {
		return nil, err
	}
	err = Create(path, data)
	if errors.Is(err, fs.ErrExist) {
		return Read(path)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// stage writes data, synced, to a new file beside path and returns its name.
func stage(path string, data []byte) (name string, err error) {
	if err := Dir(filepath.Dir(path)); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600 by its contract
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// syncDir makes a rename or link last through a power cut.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func checkMode(path string, got, want fs.FileMode) error {
	if runtime.GOOS == "windows" { // permission bits mean nothing there
		return nil
	}
	if got.Perm()&0o077 != 0 {
		return &PermissionError{Path: path, Mode: got, Want: want}
	}
	return nil
}
