package cmd

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/seal"
	"copepod/plane/auth/token"
	"copepod/plane/store"
)

// A backup is a tar file: backupImage, as store.Backup wrote it, and after it the
// cluster's keys under their paths in the data directory.
const (
	backupImage = "store.image"
	maxKeyFile  = 1 << 20 // bytes
)

var errNotBackup = errors.New("is no backup of copepod, or is cut short")

// keyFiles are what Secrets, certificates and tokens of a cluster depend on.
func keyFiles() []string {
	return []string{"pki/" + certs.CAKeyFile, "pki/" + certs.CACertFile, "seal/" + seal.FileName, "tokens/" + token.KeyFile}
}

// writeBackup puts the image and the keys that are in dataDir into a file, whole
// or not at all, and says whether there were keys.
func writeBackup(path, dataDir string, image io.Reader) (keys bool, err error) {
	raw, err := os.CreateTemp(filepath.Dir(path), ".image-*") // tar wants to know its size first
	if err != nil {
		return false, err
	}
	defer func() { _, _ = raw.Close(), os.Remove(raw.Name()) }()
	size, err := io.Copy(raw, image)
	if err != nil {
		return false, fmt.Errorf("the cluster's answer: %w", err)
	}
	if _, err := raw.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	out, err := os.CreateTemp(filepath.Dir(path), ".backup-*")
	if err != nil {
		return false, err
	}
	defer func() { _, _ = out.Close(), os.Remove(out.Name()) }() // nothing, once it is in place
	w := tar.NewWriter(out)
	if err := add(w, backupImage, size, raw); err != nil {
		return false, err
	}
	if keys, err = addKeys(w, dataDir); err != nil {
		return false, err
	}
	if err := errors.Join(w.Close(), out.Sync(), out.Close()); err != nil {
		return false, err
	}
	return keys, os.Rename(out.Name(), path)
}

func add(w *tar.Writer, name string, size int64, data io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := io.Copy(w, data)
	return err
}

func addKeys(w *tar.Writer, dataDir string) (any bool, err error) {
	for _, name := range keyFiles() {
		f, err := os.Open(filepath.Join(dataDir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return any, err
		}
		fi, err := f.Stat()
		if err == nil {
			err = add(w, name, fi.Size(), f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return any, err
		}
		any = any || name == keyFiles()[0]
	}
	return any, nil
}

// readBackup gives the image in a file to restore, and puts the keys in place.
func readBackup(path, dataDir string, restore func(io.Reader) (store.Revision, error)) (store.Revision, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	if _, err := os.Stat(filepath.Join(dataDir, "pki")); err == nil {
		return 0, fmt.Errorf("data directory %s holds a cluster already; give an empty one with --data-dir", dataDir)
	}
	r := tar.NewReader(f)
	head, err := r.Next()
	if err != nil || head.Name != backupImage {
		return 0, fmt.Errorf("%s %w", path, errNotBackup)
	}
	rev, err := restore(r)
	if err != nil {
		return 0, err
	}
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rev, nil
		}
		if err != nil || !slices.Contains(keyFiles(), head.Name) || head.Size > maxKeyFile {
			return 0, fmt.Errorf("%s %w", path, errNotBackup)
		}
		data, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
		if err != nil {
			return 0, fmt.Errorf("%s %w", path, errNotBackup)
		}
		if err := keyfile.Write(filepath.Join(dataDir, filepath.FromSlash(head.Name)), data); err != nil {
			return 0, err
		}
	}
}
