//go:build !unix

package memory

// mapping is a slice of Go's heap, where the system offers no better: growing
// copies, and the collector counts it.
type mapping struct{ buf []byte }

func (m *mapping) open(_, size uint64) []byte {
	if size > uint64(cap(m.buf)) {
		grown := make([]byte, size)
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size]
	return m.buf
}

func (m *mapping) close() { m.buf = nil }
