package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"
)

// ErrNotFound is returned when the store, or a registry, has no such image.
var ErrNotFound = errors.New("not found")

// Store is a directory of artifacts in the OCI image layout.
type Store struct {
	index index
	blobs *oci.Storage
}

// PackConfig says what a packed artifact declares about itself.
type PackConfig struct {
	Ref         string            // name to give it; empty: none
	OS          string            // "wasip1" unless said otherwise
	Author      string            //
	Created     time.Time         // zero: left out, so that equal modules have equal digests
	Annotations map[string]string // of the manifest
}

// Open makes or opens the store in dir.
func Open(dir string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("image store: no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	layout := filepath.Join(dir, ocispec.ImageLayoutFile)
	if _, err := os.Stat(layout); errors.Is(err, os.ErrNotExist) {
		data, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
		if err != nil {
			return nil, err
		}
		if err := writeFile(layout, data); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	blobs, err := oci.NewStorage(dir)
	if err != nil {
		return nil, fmt.Errorf("image store %s: %w", dir, err)
	}
	return &Store{index: index{dir: dir}, blobs: blobs}, nil
}

// Pack stores a module as an artifact, under cfg.Ref if that is set.
func (s *Store) Pack(ctx context.Context, wasm []byte, cfg PackConfig) (Image, error) {
	if len(wasm) < 8 || len(wasm) > MaxModule {
		return Image{}, fmt.Errorf("a module of %d bytes cannot be packed: want 8 to %d", len(wasm), MaxModule)
	}
	var ref Reference
	if cfg.Ref != "" {
		var err error
		if ref, err = taggable(cfg.Ref); err != nil {
			return Image{}, err
		}
	}
	cfg.OS = cmp.Or(cfg.OS, "wasip1")
	parts, err := pack(wasm, cfg)
	if err != nil {
		return Image{}, err
	}
	for _, b := range parts {
		if err := s.blobs.Push(ctx, b.desc, bytes.NewReader(b.data)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
			return Image{}, fmt.Errorf("store %s: %w", b.desc.Digest, err)
		}
	}
	manifest := parts[2].desc
	if cfg.Ref != "" {
		if err := s.index.set(ref.String(), manifest); err != nil {
			return Image{}, err
		}
	}
	return s.describe(ctx, ref.String(), manifest)
}

// Tag gives the artifact with that manifest digest another name.
func (s *Store) Tag(ctx context.Context, d Digest, name string) error {
	ref, err := taggable(name)
	if err != nil {
		return err
	}
	desc, err := s.manifest(ctx, d)
	if err != nil {
		return err
	}
	return s.index.set(ref.String(), desc)
}

// Resolve finds an image by name or by digest ("NAME@sha256:…" or "sha256:…").
func (s *Store) Resolve(ctx context.Context, name string) (Image, error) {
	if d := digest.Digest(name); d.Validate() == nil {
		desc, err := s.manifest(ctx, Digest(d))
		if err != nil {
			return Image{}, err
		}
		return s.describe(ctx, "", desc)
	}
	ref, err := ParseReference(name)
	if err != nil {
		return Image{}, err
	}
	var desc ocispec.Descriptor
	if ref.Digest != "" {
		desc, err = s.manifest(ctx, ref.Digest)
	} else {
		desc, err = s.index.find(ref.String())
	}
	if err != nil {
		return Image{}, err
	}
	return s.describe(ctx, ref.String(), desc)
}

// Images lists every name in the store, sorted.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	idx, err := s.index.read()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(idx.Manifests))
	for _, d := range idx.Manifests {
		img, err := s.describe(ctx, d.Annotations[ocispec.AnnotationRefName], d)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	slices.SortFunc(images, func(a, b Image) int { return cmp.Compare(a.Ref, b.Ref) })
	return images, nil
}

// Module returns the module of the artifact with that manifest digest. The
// bytes are checked against the layer's digest before they are returned.
func (s *Store) Module(ctx context.Context, d Digest) ([]byte, error) {
	desc, err := s.manifest(ctx, d)
	if err != nil {
		return nil, err
	}
	data, err := content.FetchAll(ctx, s.blobs, desc)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	_, layer, err := moduleLayer(d, data)
	if err != nil {
		return nil, err
	}
	wasm, err := content.FetchAll(ctx, s.blobs, layer)
	if err != nil {
		return nil, fmt.Errorf("module %s of %s: %w; pull the image again", layer.Digest, d, err)
	}
	return wasm, nil
}

// manifest makes the descriptor of a stored manifest from its digest alone.
func (s *Store) manifest(_ context.Context, d Digest) (ocispec.Descriptor, error) {
	dgst := digest.Digest(d)
	if err := dgst.Validate(); err != nil {
		return ocispec.Descriptor{}, &ReferenceError{Ref: string(d), Reason: "its digest is malformed"}
	}
	fi, err := os.Stat(filepath.Join(s.index.dir, ocispec.ImageBlobsDir, dgst.Algorithm().String(), dgst.Encoded()))
	if errors.Is(err, os.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", d, err)
	}
	if fi.Size() > maxManifest {
		return ocispec.Descriptor{}, &MediaTypeError{Digest: d, Reason: "the digest names a blob too large to be a manifest"}
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: fi.Size()}, nil
}

// describe reads what the manifest and its config say.
func (s *Store) describe(ctx context.Context, name string, desc ocispec.Descriptor) (Image, error) {
	desc.Annotations = nil
	d := Digest(desc.Digest)
	data, err := content.FetchAll(ctx, s.blobs, desc)
	if err != nil {
		return Image{}, fmt.Errorf("manifest %s: %w", d, err)
	}
	m, layer, err := moduleLayer(d, data)
	if err != nil {
		return Image{}, err
	}
	img := Image{Ref: name, Digest: d, Layer: Digest(layer.Digest), Size: layer.Size, OS: "wasip1"}
	r, err := s.blobs.Fetch(ctx, m.Config)
	if err != nil {
		return img, nil // a foreign artifact need not bring a config that we can read
	}
	defer func() { _ = r.Close() }()
	var c config
	if raw, err := io.ReadAll(io.LimitReader(r, maxManifest)); err == nil && json.Unmarshal(raw, &c) == nil {
		img.OS, img.Author = cmp.Or(c.OS, img.OS), c.Author
		if c.Created != nil {
			img.Created = *c.Created
		}
	}
	return img, nil
}

// taggable is a reference that can be given: it has a tag and no digest.
func taggable(name string) (Reference, error) {
	ref, err := ParseReference(name)
	if err == nil && ref.Digest != "" {
		err = &ReferenceError{Ref: name, Reason: "a digest cannot be given to an image, it follows from the content"}
	}
	return ref, err
}
