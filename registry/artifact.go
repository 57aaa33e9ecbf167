package registry

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the CNCF's Wasm OCI Artifact layout, version 0.
const (
	MediaTypeConfig = "application/vnd.wasm.config.v0+json"
	MediaTypeModule = "application/wasm"

	// What older tools pushed; read, never written.
	mediaTypeLegacyModule = "application/vnd.wasm.content.layer.v1+wasm"
)

// Limits on what is read from a registry or from disk.
const (
	MaxModule   = 256 << 20 // bytes of a module
	maxManifest = 4 << 20   // bytes of a manifest or config
)

// Image is one stored artifact under one of its names.
type Image struct {
	Ref     string    // canonical name; empty when it was looked up by digest alone
	Digest  Digest    // of the manifest: what a pod's imageID shows
	Layer   Digest    // of the module
	Size    int64     // bytes of the module
	OS      string    // "wasip1", or "wasip2" for components
	Created time.Time // zero when the artifact does not say
	Author  string
}

// MediaTypeError says that an artifact is not a wasm module, and what it is.
type MediaTypeError struct {
	Digest Digest
	Reason string
}

func (e *MediaTypeError) Error() string {
	return fmt.Sprintf("%s is not a wasm artifact: %s", e.Digest, e.Reason)
}

// config is the JSON of MediaTypeConfig.
type config struct {
	Created      *time.Time `json:"created,omitempty"`
	Author       string     `json:"author,omitempty"`
	Architecture string     `json:"architecture"`
	OS           string     `json:"os"`
	LayerDigests []Digest   `json:"layerDigests"`
}

// blob is content with its descriptor.
type blob struct {
	desc ocispec.Descriptor
	data []byte
}

func newBlob(mediaType string, data []byte) blob {
	return blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// pack lays a module out as an artifact: module, config, manifest. The same
// module and config always give the same digests.
func pack(wasm []byte, cfg PackConfig) ([3]blob, error) {
	module := newBlob(MediaTypeModule, wasm)
	c := config{Author: cfg.Author, Architecture: "wasm", OS: cfg.OS, LayerDigests: []Digest{Digest(module.desc.Digest)}}
	if !cfg.Created.IsZero() {
		c.Created = &cfg.Created
	}
	configJSON, err := json.Marshal(c)
	if err != nil {
		return [3]blob{}, err
	}
	conf := newBlob(MediaTypeConfig, configJSON)
	manifestJSON, err := json.Marshal(ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      conf.desc,
		Layers:      []ocispec.Descriptor{module.desc},
		Annotations: cfg.Annotations,
	})
	if err != nil {
		return [3]blob{}, err
	}
	return [3]blob{module, conf, newBlob(ocispec.MediaTypeImageManifest, manifestJSON)}, nil
}

// moduleLayer finds the one layer that holds the module. The layout asks
// consumers to reject artifacts of several layers.
func moduleLayer(dgst Digest, manifestJSON []byte) (ocispec.Manifest, ocispec.Descriptor, error) {
	fail := func(format string, args ...any) (ocispec.Manifest, ocispec.Descriptor, error) {
		return ocispec.Manifest{}, ocispec.Descriptor{}, &MediaTypeError{Digest: dgst, Reason: fmt.Sprintf(format, args...)}
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifestJSON, &m); err != nil {
		return fail("its manifest is not JSON: %v", err)
	}
	if len(m.Layers) != 1 {
		return fail("it has %d layers, want exactly one of type %s", len(m.Layers), MediaTypeModule)
	}
	layer := m.Layers[0]
	if layer.MediaType != MediaTypeModule && layer.MediaType != mediaTypeLegacyModule {
		return fail("its layer is %q, want %s (container images need an OCI runtime)", layer.MediaType, MediaTypeModule)
	}
	if layer.Size < 8 || layer.Size > MaxModule {
		return fail("its module has %d bytes, want 8 to %d", layer.Size, MaxModule)
	}
	if m.Config.Size < 0 || m.Config.Size > maxManifest {
		return fail("its config has %d bytes, want at most %d", m.Config.Size, maxManifest)
	}
	if err := layer.Digest.Validate(); err != nil {
		return fail("the digest of its layer is malformed")
	}
	return m, layer, nil
}
