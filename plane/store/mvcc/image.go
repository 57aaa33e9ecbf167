package mvcc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

// An image is a snapshot as a stream of bytes:
//
//	8 bytes  "CPODMVCC"
//	byte     format, now 2; 1 is read as well
//	frames, each:
//	  uint32 length of the block, little endian
//	  uint32 CRC-32C of the block
//	  block: s2 of records
//	an empty frame, then uint64 number of keys, uint32 CRC-32C of all block
//	checksums in order
//
// The first record is revision and compacted revision, and since format 2 the
// sessions, those used longest ago first: session, lowest number of interest,
// and for each group its number and the revisions of its transactions. Then
// follow the keys in ascending order: key, revision, created, version,
// deadline, value.
const (
	imageMagic  = "CPODMVCC"
	imageFormat = 2
	sessionless = 1 // the format before there were sessions
	frameTarget = 256 << 10
	maxFrame    = maxBody + frameTarget
)

// WriteImage streams the snapshot to w in little memory: the keys, and nothing
// of who wrote them. A machine that goes on elsewhere needs an Image.
func (s *Snapshot) WriteImage(w io.Writer) error {
	return Image{snap: s, sessions: []byte{0}}.Write(w)
}

// Image is all that another machine needs to go on from here.
type Image struct {
	snap     *Snapshot
	sessions []byte // encoded
}

// Image takes the state, to be written while more commands are applied.
func (m *Machine) Image() Image { return Image{m.Publish(), m.sessions.appendTo(nil)} }

// Write streams the image to w in little memory. ReadImage reads it.
func (i Image) Write(w io.Writer) error {
	s := i.snap
	iw := imageWriter{w: bufio.NewWriterSize(w, 64<<10)}
	iw.w.WriteString(imageMagic)
	iw.w.WriteByte(imageFormat)
	iw.raw = binary.AppendUvarint(iw.raw, uint64(s.rev))
	iw.raw = binary.AppendUvarint(iw.raw, uint64(s.compacted))
	iw.raw = append(iw.raw, i.sessions...)
	s.keys.Scan(func(_ string, kv *KV) bool { return iw.key(kv) == nil })
	if err := iw.finish(uint64(s.keys.Len())); err != nil {
		return fmt.Errorf("write image of revision %d: %w", s.rev, err)
	}
	return nil
}

type imageWriter struct {
	w           *bufio.Writer
	raw, packed []byte
	sum         uint32 // of the checksums of all blocks
	err         error
}

func (iw *imageWriter) key(kv *KV) error {
	b := binary.AppendUvarint(iw.raw, uint64(len(kv.Key)))
	b = append(b, kv.Key...)
	b = binary.AppendUvarint(b, uint64(kv.Rev))
	b = binary.AppendUvarint(b, uint64(kv.Created))
	b = binary.AppendUvarint(b, kv.Version)
	b = binary.AppendUvarint(b, uint64(kv.Expires))
	b = binary.AppendUvarint(b, uint64(len(kv.Value)))
	iw.raw = append(b, kv.Value...)
	if len(iw.raw) >= frameTarget {
		iw.flush()
	}
	return iw.err
}

func (iw *imageWriter) flush() {
	if n := s2.MaxEncodedLen(len(iw.raw)); len(iw.packed) < n {
		iw.packed = make([]byte, n)
	}
	block := s2.Encode(iw.packed, iw.raw)
	iw.raw = iw.raw[:0]
	sum := crc32.Checksum(block, castagnoli)
	iw.sum = chain(iw.sum, sum)
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(block)))
	binary.LittleEndian.PutUint32(head[4:], sum)
	_, err := iw.w.Write(head[:])
	if err == nil {
		_, err = iw.w.Write(block)
	}
	iw.err = errors.Join(iw.err, err)
}

func (iw *imageWriter) finish(keys uint64) error {
	if len(iw.raw) > 0 && iw.err == nil {
		iw.flush()
	}
	var tail [20]byte // an empty frame first
	binary.LittleEndian.PutUint64(tail[8:], keys)
	binary.LittleEndian.PutUint32(tail[16:], iw.sum)
	_, err := iw.w.Write(tail[:])
	return errors.Join(iw.err, err, iw.w.Flush())
}

// chain adds the checksum of a block to the checksum of the stream.
func chain(sum, block uint32) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], block)
	return crc32.Update(sum, castagnoli, b[:])
}

// ReadImage reads what WriteImage or an Image wrote into a new machine. Every byte is
// verified; the error is ErrCorrupt, ErrNewerFormat or that of r. History
// begins at the revision of the image.
func ReadImage(r io.Reader, limits Limits) (*Machine, error) {
	ir := imageReader{r: bufio.NewReaderSize(r, 64<<10), m: NewMachine(limits)}
	if err := ir.read(); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends early", ErrCorrupt)
		}
		return nil, fmt.Errorf("read image: %w", err)
	}
	return ir.m, nil
}

type imageReader struct {
	r      *bufio.Reader
	m      *Machine
	format byte
	packed []byte
	raw    []byte
	sum    uint32
	last   string
}

func (ir *imageReader) read() error {
	var head [len(imageMagic) + 1]byte
	if _, err := io.ReadFull(ir.r, head[:]); err != nil {
		return err
	}
	if string(head[:len(imageMagic)]) != imageMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrCorrupt)
	}
	switch ir.format = head[len(imageMagic)]; {
	case ir.format == 0:
		return fmt.Errorf("%w: format 0", ErrCorrupt)
	case ir.format > imageFormat:
		return fmt.Errorf("format %d: %w", ir.format, ErrNewerFormat)
	}
	for first := true; ; first = false {
		more, err := ir.frame()
		if err != nil {
			return err
		}
		if !more {
			return ir.tail()
		}
		if err := ir.records(first); err != nil {
			return err
		}
	}
}

// frame reads the next block into raw; false at the empty frame.
func (ir *imageReader) frame() (bool, error) {
	var head [8]byte
	if _, err := io.ReadFull(ir.r, head[:]); err != nil {
		return false, err
	}
	n, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if n == 0 && sum == 0 {
		return false, nil
	}
	if n == 0 || n > maxFrame {
		return false, fmt.Errorf("%w: frame of %d bytes", ErrCorrupt, n)
	}
	var err error
	if ir.packed, err = readN(ir.r, ir.packed[:0], int(n)); err != nil {
		return false, err
	}
	if crc32.Checksum(ir.packed, castagnoli) != sum {
		return false, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	ir.sum = chain(ir.sum, sum)
	if size, err := s2.DecodedLen(ir.packed); err != nil || size > maxFrame {
		return false, fmt.Errorf("%w: frame unpacks to %d bytes", ErrCorrupt, size)
	}
	if ir.raw, err = s2.Decode(ir.raw[:cap(ir.raw)], ir.packed); err != nil {
		return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return true, nil
}

// readN appends n bytes of r to b, growing it only as they arrive, so that a
// lying length costs nothing.
func readN(r io.Reader, b []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, frameTarget)
		start := len(b)
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r, b[start:]); err != nil {
			return b, err
		}
		n -= step
	}
	return b, nil
}

func (ir *imageReader) records(first bool) error {
	r, m := reader{b: ir.raw}, ir.m
	if first {
		m.rev = Revision(r.uvarint())
		m.compacted = Revision(r.uvarint())
		m.floor = m.rev
		if ir.format > sessionless {
			m.sessions.read(&r)
		}
	}
	for len(r.b) > 0 && !r.bad {
		key := string(r.bytes())
		kv := &KV{Key: key, Rev: Revision(r.uvarint()), Created: Revision(r.uvarint()), Version: r.uvarint(), Expires: r.int()}
		kv.Value = append([]byte{}, r.bytes()...)
		if r.bad {
			break
		}
		if m.keys.Len() > 0 && key <= ir.last || kv.Rev > m.rev || kv.Created > kv.Rev {
			return fmt.Errorf("%w: key %q is out of order", ErrCorrupt, key)
		}
		ir.last = key
		m.keys.Load(key, kv)
		m.bytes += kv.size()
		m.due.replace(nil, kv)
	}
	if r.bad {
		return fmt.Errorf("%w: a record ends early", ErrCorrupt)
	}
	return nil
}

func (ir *imageReader) tail() error {
	var tail [12]byte
	if _, err := io.ReadFull(ir.r, tail[:]); err != nil {
		return err
	}
	keys, sum := binary.LittleEndian.Uint64(tail[:]), binary.LittleEndian.Uint32(tail[8:])
	if keys != uint64(ir.m.keys.Len()) || sum != ir.sum {
		return fmt.Errorf("%w: %d keys of %d", ErrCorrupt, ir.m.keys.Len(), keys)
	}
	return nil
}
