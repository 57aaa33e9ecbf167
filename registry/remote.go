package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// RemoteOptions say how to talk to a registry (OCI distribution spec 1.1).
type RemoteOptions struct {
	Username, Password string        // both empty: anonymous, or the user's own (UserCredentials)
	UserCredentials    bool          // look into the user's Docker configuration
	PlainHTTP          bool          // no TLS; loopback hosts get it anyway
	Timeout            time.Duration // of the whole transfer; 0 = 10 minutes
}

const userAgent = "copepod"

// Pull fetches an image from its registry into the store. The manifest and the
// size of its module are checked before the module is transferred. It returns
// ErrNotFound, *MediaTypeError, *ReferenceError or what the network said.
func (s *Store) Pull(ctx context.Context, name string, opts RemoteOptions) (Image, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return Image{}, err
	}
	if ref.Local() {
		return Image{}, fmt.Errorf("image %s: %w in the local store, and the name has no registry host to pull it from", ref, ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(opts.Timeout))
	defer cancel()
	repo, err := repository(ref, opts)
	if err != nil {
		return Image{}, err
	}
	return s.copyFrom(ctx, repo, ref)
}

// copyFrom fetches ref from repo, and names it here as it is named there.
func (s *Store) copyFrom(ctx context.Context, repo *remote.Repository, ref Reference) (Image, error) {
	want := ref.Tag
	if ref.Digest != "" {
		want = string(ref.Digest)
	}
	desc, err := s.fetchManifest(ctx, repo, want)
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, notFound(err))
	}
	copyOpts := oras.CopyGraphOptions{MaxMetadataBytes: maxManifest, FindSuccessors: onlyModule}
	if err := oras.CopyGraph(ctx, repo, s.blobs, desc, copyOpts); err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, notFound(err))
	}
	if ref.Digest == "" {
		if err := s.index.set(ref.String(), plain(desc)); err != nil {
			return Image{}, err
		}
	}
	return s.describe(ctx, ref.String(), plain(desc))
}

// fetchManifest resolves what is to be pulled and refuses what is no module. Of
// an image index it takes the entry for wasm.
func (s *Store) fetchManifest(ctx context.Context, repo *remote.Repository, want string) (ocispec.Descriptor, error) {
	desc, err := repo.Resolve(ctx, want)
	if err != nil {
		return desc, err
	}
	if desc.Size > maxManifest {
		return desc, &MediaTypeError{Digest: Digest(desc.Digest), Reason: "its manifest is larger than 4 MiB"}
	}
	data, err := content.FetchAll(ctx, repo, desc)
	if err != nil {
		return desc, err
	}
	if desc.MediaType == ocispec.MediaTypeImageIndex {
		entry, err := wasmEntry(Digest(desc.Digest), data)
		if err != nil {
			return desc, err
		}
		return s.fetchManifest(ctx, repo, string(entry.Digest))
	}
	_, _, err = moduleLayer(Digest(desc.Digest), data)
	return desc, err
}

// onlyModule keeps a pull to the config and the module: a manifest may also name
// a subject, and through it content without end.
func onlyModule(ctx context.Context, from content.Fetcher, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return nil, nil
	}
	data, err := content.FetchAll(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	m, layer, err := moduleLayer(Digest(desc.Digest), data)
	if err != nil {
		return nil, err
	}
	return []ocispec.Descriptor{m.Config, layer}, nil
}

// Push sends a stored image to the registry that its name says.
func (s *Store) Push(ctx context.Context, name string, opts RemoteOptions) (Image, error) {
	img, err := s.Resolve(ctx, name)
	if err != nil {
		return Image{}, err
	}
	ref, err := taggable(name)
	if err != nil {
		return Image{}, err
	}
	if ref.Local() {
		return Image{}, fmt.Errorf("image %s: the name has no registry host to push it to; tag it as HOST/%s first", ref, ref)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(opts.Timeout))
	defer cancel()
	repo, err := repository(ref, opts)
	if err != nil {
		return Image{}, err
	}
	desc, err := s.manifest(ctx, img.Digest)
	if err != nil {
		return Image{}, err
	}
	if err := oras.CopyGraph(ctx, s.blobs, repo, desc, oras.CopyGraphOptions{MaxMetadataBytes: maxManifest}); err != nil {
		return Image{}, fmt.Errorf("push %s: %w", ref, err)
	}
	if err := repo.Tag(ctx, desc, ref.Tag); err != nil {
		return Image{}, fmt.Errorf("push %s: tag: %w", ref, err)
	}
	return img, nil
}

func repository(ref Reference, opts RemoteOptions) (*remote.Repository, error) {
	repo, err := remote.NewRepository(ref.Name())
	if err != nil {
		return nil, &ReferenceError{Ref: ref.String(), Reason: err.Error()}
	}
	repo.PlainHTTP = opts.PlainHTTP || loopback(ref.Host)
	repo.MaxMetadataBytes = maxManifest
	client := &auth.Client{
		Client: &http.Client{Transport: retry.NewTransport(http.DefaultTransport)},
		Header: http.Header{"User-Agent": {userAgent}},
		Cache:  auth.NewCache(),
	}
	switch {
	case opts.Username != "" || opts.Password != "":
		client.Credential = auth.StaticCredential(ref.Host, auth.Credential{Username: opts.Username, Password: opts.Password})
	case opts.UserCredentials:
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("registry credentials: %w", err)
		}
		client.Credential = credentials.Credential(store)
	}
	repo.Client = client
	return repo, nil
}

// notFound turns the library's way to say it into ours.
func notFound(err error) error {
	if errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

func orDefault(d time.Duration) time.Duration {
	if d <= 0 {
		return 10 * time.Minute
	}
	return d
}
