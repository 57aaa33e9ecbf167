//go:build !linux

package memory

import "slices"

// content is an image as a plain copy, where the system does not tell which
// pages were written to.
type content struct{ copied []byte }

func newContent(b []byte) (content, error) { return content{slices.Clone(b)}, nil }

func (content) close() error { return nil }

func (c content) begin(b []byte) error {
	copy(b, c.copied)
	return nil
}

func (c content) rewind(b []byte, _ *int) (int, error) {
	copy(b, c.copied)
	return len(b) / PageSize, nil
}
