package registry

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Handler serves the images without a registry host to other machines: the read
// half of the OCI distribution spec 1.1 (GET and HEAD of /v2/, manifests and
// blobs). What was pulled from a registry is not among them: whoever may have it
// has credentials for that registry. Who may ask at all is the caller's to check.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		err := s.answer(w, r, r.PathValue("rest"))
		switch {
		case err == nil:
		case errors.Is(err, ErrNotFound):
			http.Error(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, http.StatusNotFound)
		default:
			http.Error(w, `{"errors":[{"code":"UNKNOWN"}]}`, http.StatusInternalServerError)
		}
	})
	return mux
}

// answer writes what path, "NAME/manifests/REFERENCE" or "NAME/blobs/DIGEST",
// stands for.
func (s *Store) answer(w http.ResponseWriter, r *http.Request, path string) error {
	if path == "" {
		return nil // the API is here
	}
	rest, last, _ := cutLast(path, '/')
	name, kind, _ := cutLast(rest, '/')
	var desc ocispec.Descriptor
	var err error
	switch kind {
	case "manifests":
		desc, err = s.shared(name, last)
	case "blobs":
		desc, err = s.sharedBlob(r, name, digest.Digest(last))
	default:
		err = ErrNotFound
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", desc.MediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(desc.Size, 10))
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	if r.Method == http.MethodHead {
		return nil
	}
	blob, err := s.blobs.Fetch(r.Context(), desc)
	if err != nil {
		return ErrNotFound
	}
	defer func() { _ = blob.Close() }()
	_, _ = io.Copy(w, blob) // the reader checks the digest
	return nil
}

// shared is the manifest that a tag or a digest of a repository without a host
// stands for.
func (s *Store) shared(name, tagOrDigest string) (ocispec.Descriptor, error) {
	idx, err := s.index.read()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range idx.Manifests {
		ref, err := ParseReference(d.Annotations[ocispec.AnnotationRefName])
		if err != nil || !ref.Local() || ref.Repository != name {
			continue
		}
		if ref.Tag == tagOrDigest || d.Digest.String() == tagOrDigest {
			return plain(d), nil
		}
	}
	return ocispec.Descriptor{}, ErrNotFound
}

// sharedBlob is the config or the module of an image of that repository.
func (s *Store) sharedBlob(r *http.Request, name string, want digest.Digest) (ocispec.Descriptor, error) {
	idx, err := s.index.read()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range idx.Manifests {
		ref, err := ParseReference(d.Annotations[ocispec.AnnotationRefName])
		if err != nil || !ref.Local() || ref.Repository != name {
			continue
		}
		data, err := content.FetchAll(r.Context(), s.blobs, plain(d))
		if err != nil {
			return ocispec.Descriptor{}, ErrNotFound
		}
		m, layer, err := moduleLayer(Digest(d.Digest), data)
		if err != nil {
			continue
		}
		for _, blob := range []ocispec.Descriptor{m.Config, layer} {
			if blob.Digest == want {
				return plain(blob), nil
			}
		}
	}
	return ocispec.Descriptor{}, ErrNotFound
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}
