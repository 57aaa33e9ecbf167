package registry

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	oras "oras.land/oras-go/v2/registry"
)

// Digest names content by its hash, "sha256:" and 64 hexadecimal digits.
type Digest string

// Reference is a parsed image name: [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST].
// Without a host it names an image of the local store alone.
type Reference struct {
	Host       string // empty: local only
	Repository string
	Tag        string // "latest" where neither tag nor digest was given
	Digest     Digest // wins over Tag
}

// ReferenceError says why a string names no image.
type ReferenceError struct {
	Ref    string
	Reason string
}

func (e *ReferenceError) Error() string {
	return fmt.Sprintf("image name %q: %s; want [HOST/]NAME[:TAG][@sha256:…]", e.Ref, e.Reason)
}

const maxReference = 1024 // bytes; the distribution spec asks for 255 of the name alone

// ParseReference reads an image name. Its errors are *ReferenceError.
func ParseReference(s string) (Reference, error) {
	fail := func(reason string) (Reference, error) {
		if len(s) > 80 {
			s = s[:80] + "…"
		}
		return Reference{}, &ReferenceError{Ref: s, Reason: reason}
	}
	if s == "" {
		return fail("it is empty")
	}
	if len(s) > maxReference {
		return fail("it is longer than 1024 bytes")
	}
	var r Reference
	name, dgst, pinned := strings.Cut(s, "@")
	if pinned {
		if err := digest.Digest(dgst).Validate(); err != nil {
			return fail("its digest is malformed")
		}
		r.Digest = Digest(dgst)
	}
	if first, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		r.Host, name = first, rest
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name, r.Tag = name[:i], name[i+1:]
		if r.Tag == "" {
			return fail("the tag after ':' is empty")
		}
	}
	if r.Tag == "" && !pinned {
		r.Tag = "latest"
	}
	r.Repository = name
	check := oras.Reference{Registry: r.Host, Repository: r.Repository, Reference: r.Tag}
	if err := check.ValidateRepository(); err != nil {
		return fail(fmt.Sprintf("%q is not a repository name (lower case letters, digits, and . _ - / between them)", name))
	}
	if r.Host != "" && (check.ValidateRegistry() != nil || strings.HasPrefix(r.Host, ".")) {
		return fail(fmt.Sprintf("%q is not a registry host", r.Host))
	}
	if r.Tag != "" && check.ValidateReferenceAsTag() != nil {
		return fail(fmt.Sprintf("%q is not a tag (at most 128 letters, digits, and . _ -)", r.Tag))
	}
	return r, nil
}

// Name is the reference without tag and digest.
func (r Reference) Name() string {
	if r.Host == "" {
		return r.Repository
	}
	return r.Host + "/" + r.Repository
}

// String is the canonical form: the tag is always there unless a digest is.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Name() + "@" + string(r.Digest)
	}
	return r.Name() + ":" + r.Tag
}

// Local says that no registry holds this image: it is found in the local store
// or not at all.
func (r Reference) Local() bool { return r.Host == "" }
