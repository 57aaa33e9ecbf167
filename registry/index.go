package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// index is the layout's index.json: which name means which manifest. It is read
// anew for each question, because another process may have replaced it, and
// written whole to a temporary file that is renamed over it.
type index struct{ dir string }

func (x index) path() string { return filepath.Join(x.dir, ocispec.ImageIndexFile) }

func (x index) read() (ocispec.Index, error) {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	data, err := os.ReadFile(x.path())
	if errors.Is(err, fs.ErrNotExist) {
		return idx, nil
	}
	if err != nil {
		return idx, fmt.Errorf("image index: %w", err)
	}
	if err := json.Unmarshal(data, &idx); err != nil {
		return idx, fmt.Errorf("image index %s is damaged: %w; move it away to start with no names (the modules stay)", x.path(), err)
	}
	return idx, nil
}

// update applies change to the index under the lock that all processes share.
func (x index) update(change func(*ocispec.Index)) error {
	lock := flock.New(x.path()+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("image index: lock: %w", err)
	}
	defer func() { _ = lock.Close() }()
	idx, err := x.read()
	if err != nil {
		return err
	}
	change(&idx)
	data, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(x.path(), data)
}

// find is the descriptor that a canonical name stands for.
func (x index) find(name string) (ocispec.Descriptor, error) {
	idx, err := x.read()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range idx.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == name {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", name, ErrNotFound)
}

// set points name at the manifest, away from whatever it meant before.
func (x index) set(name string, manifest ocispec.Descriptor) error {
	manifest.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	return x.update(func(idx *ocispec.Index) {
		for i, d := range idx.Manifests {
			if d.Annotations[ocispec.AnnotationRefName] == name {
				idx.Manifests[i] = manifest
				return
			}
		}
		idx.Manifests = append(idx.Manifests, manifest)
	})
}

// writeFile replaces path with data so that a crash leaves the old or the new
// file, never a mixture.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
