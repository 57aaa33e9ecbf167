// Package registry keeps WebAssembly modules as OCI artifacts: a store on disk
// in the OCI image layout, addressed by content, and the ways to and from any
// OCI registry. It knows manifests, digests and tags; it never looks inside a
// module, and has never heard of pods or runtimes.
//
//	store, err := registry.Open(dir)
//	image, err := store.Pack(ctx, wasm, registry.PackConfig{Ref: "hello:v1"})
//	code, err := store.Module(ctx, image.Digest)
//
// An artifact is what the CNCF's "Wasm OCI Artifact layout" says: an OCI image
// manifest, a config of type application/vnd.wasm.config.v0+json, and exactly
// one layer of type application/wasm.
//
// Several processes may use one store at a time: blobs are written under their
// digest and never change, and the index of names is replaced atomically under
// a file lock.
package registry
