package memory

import (
	"errors"
	"fmt"
)

// Image is what the memory of one guest held at one moment, for others to begin
// with and to be put back to:
//
//	image, err := first.Image()      // after its initialisation
//	err = other.Adopt(image)         // same size, same content from here on
//	pages, err := other.Rewind()     // and again, after each use
//
// On Linux a guest that adopted an image shares its pages until it writes to
// them, and a rewind touches only those that were written to. Elsewhere both copy
// the whole memory.
//
// Unverified: behaviour under swap, which the tests cannot bring about.
type Image struct {
	size    int64
	content content
}

// Size is the length of the memory, in bytes.
func (i *Image) Size() int64 { return i.size }

// Close frees the image. Guests that adopted it can be rewound no more.
func (i *Image) Close() error { return i.content.close() }

// ErrGrown says that a memory has grown since it adopted its image. Memory does
// not shrink, so that guest cannot be put back.
var ErrGrown = errors.New("the memory has grown")

var errNoImage = errors.New("no image was adopted")

// Image takes an image of the memory. No call into the guest may be in flight.
func (a *Allocator) Image() (*Image, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := a.bytes()
	if err != nil {
		return nil, err
	}
	i := &Image{size: int64(len(b))}
	if len(b) == 0 {
		return i, nil
	}
	if i.content, err = newContent(b); err != nil {
		return nil, fmt.Errorf("memory image of %d bytes: %w", len(b), err)
	}
	return i, nil
}

// Adopt replaces the content of the memory, which must have the image's size.
// No call into the guest may be in flight.
func (a *Allocator) Adopt(i *Image) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := a.bytes()
	if err != nil {
		return err
	}
	if int64(len(b)) != i.size {
		return fmt.Errorf("adopt an image of %d bytes: the memory has %d", i.size, len(b))
	}
	a.image = i
	if i.size == 0 {
		return nil
	}
	return i.content.begin(b)
}

// Rewind puts the memory back to the image that it adopted, and returns how many
// of the system's pages it had to write for that. It fails with ErrGrown for a
// memory that has grown. No call into the guest may be in flight.
func (a *Allocator) Rewind() (pages int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := a.bytes()
	switch {
	case err != nil:
		return 0, err
	case a.image == nil:
		return 0, errNoImage
	case int64(len(b)) != a.image.size:
		return 0, ErrGrown
	case len(b) == 0:
		return 0, nil
	}
	return a.image.content.rewind(b, &a.vain)
}

// bytes is the memory. The caller holds a.mu.
func (a *Allocator) bytes() ([]byte, error) {
	switch {
	case a.freed:
		return nil, errors.New("the memory was freed")
	case len(a.regions) == 0:
		return nil, nil
	case len(a.regions) > 1:
		return nil, fmt.Errorf("a guest of %d memories", len(a.regions))
	}
	r := a.regions[0]
	return r.mapping.open(r.reserve, r.size), nil
}
