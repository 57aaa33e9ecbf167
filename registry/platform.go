package registry

import (
	"encoding/json"
	"net"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wasmEntry picks the manifest for wasm out of an image index: architecture
// "wasm" (or "wasm32", which some builders write), or the only entry there is.
func wasmEntry(d Digest, indexJSON []byte) (ocispec.Descriptor, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(indexJSON, &idx); err != nil {
		return ocispec.Descriptor{}, &MediaTypeError{Digest: d, Reason: "its index is not JSON"}
	}
	var found *ocispec.Descriptor
	for i, m := range idx.Manifests {
		if m.MediaType != ocispec.MediaTypeImageManifest {
			continue
		}
		p := m.Platform
		if p != nil && (p.Architecture == "wasm" || p.Architecture == "wasm32") || p == nil && len(idx.Manifests) == 1 {
			found = &idx.Manifests[i]
			break
		}
	}
	if found == nil {
		return ocispec.Descriptor{}, &MediaTypeError{Digest: d, Reason: "it is an index without an entry for wasm"}
	}
	return *found, nil
}

// loopback hosts speak plain HTTP unless told otherwise, as Docker has it.
func loopback(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	ip := net.ParseIP(h)
	return h == "localhost" || ip != nil && ip.IsLoopback()
}
