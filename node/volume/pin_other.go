//go:build !linux

package volume

import (
	"io"
	"os"
	"path/filepath"
)

// pin names a directory. Systems without names for descriptors leave a moment
// in which another container of the same pod could put a link in its place.
func pin(root *os.Root, sub string) (string, io.Closer, error) {
	dir, err := root.OpenRoot(sub)
	if err != nil {
		return "", nil, err
	}
	host, err := filepath.EvalSymlinks(filepath.Join(root.Name(), sub))
	return host, dir, err
}
