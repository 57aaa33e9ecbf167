package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"oras.land/oras-go/v2/registry/remote"
)

// Peer is another machine whose Store.Handler we may ask.
type Peer struct {
	Name   string // for errors
	Host   string // "10.0.0.2:10250"
	Client *http.Client
}

// Shared is a Store that asks other machines for images without a registry host
// before it says that there is no such image. Where several machines give one tag
// to different modules, the first that answers wins: tags that follow from the
// content, as `copepod run` makes them, have no such trouble.
type Shared struct {
	*Store
	Peers func() []Peer // in the order in which they are asked
}

// peerTimeout bounds what one machine may take to say whether it has an image.
const peerTimeout = 3 * time.Second

// Pull is Store.Pull for names with a host, and asks the peers for others.
func (s Shared) Pull(ctx context.Context, name string, opts RemoteOptions) (Image, error) {
	ref, err := ParseReference(name)
	if err != nil || !ref.Local() {
		return s.Store.Pull(ctx, name, opts)
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(opts.Timeout))
	defer cancel()
	var failed []error
	peers := s.Peers()
	for _, p := range peers {
		img, err := s.fetch(ctx, ref, p)
		if err == nil {
			return img, nil
		}
		if !errors.Is(err, ErrNotFound) {
			failed = append(failed, fmt.Errorf("from %s: %w", p.Name, err))
		}
	}
	missing := fmt.Errorf("image %s: %w in the local store or on %d other machines, and the name has no registry host to pull it from", ref, ErrNotFound, len(peers))
	return Image{}, errors.Join(append([]error{missing}, failed...)...)
}

func (s Shared) fetch(ctx context.Context, ref Reference, p Peer) (Image, error) {
	repo, err := remote.NewRepository(p.Host + "/" + ref.Repository)
	if err != nil {
		return Image{}, &ReferenceError{Ref: ref.String(), Reason: err.Error()}
	}
	repo.MaxMetadataBytes = maxManifest
	repo.Client = p.Client
	want := ref.Tag
	if ref.Digest != "" {
		want = string(ref.Digest)
	}
	ask, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	if _, err := repo.Resolve(ask, want); err != nil {
		return Image{}, notFound(err)
	}
	return s.copyFrom(ctx, repo, ref)
}
