package mvcc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
)

// A command, as it stands in the log:
//
//	byte    format, now 1
//	byte    kind: 1 transactions, 2 expire, 3 compact, 4 groups
//	byte    flags: 1 = the body is one s2 block
//	uint32  CRC-32C of the body as stored, little endian
//	body
//
// The body begins with the time of the command (Unix milliseconds, uvarint);
// then follow for transactions their number and each of them, for expire the
// greatest number of keys, for compact the revision, for groups their number
// and each of them: session (8 bytes, little endian), sequence number, lowest
// one of interest, and transactions as above. A transaction is the
// number of its operations and each of them: kind, key, expectation, and for
// a put the TTL in milliseconds and the value. Numbers are uvarints, strings
// have their length before them.
const (
	commandFormat = 1
	commandHeader = 7

	kindTxns    = 1
	kindExpire  = 2
	kindCompact = 3
	kindGroups  = 4

	flagS2 = 1

	// maxBody bounds what a command may unpack to.
	maxBody = 64 << 20
	// compressFrom is the body from which compression is worth its time.
	compressFrom = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendTxn appends the encoding of a transaction to dst.
func AppendTxn(dst []byte, txn Txn) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(txn)))
	for i := range txn {
		op := &txn[i]
		dst = append(dst, byte(op.Kind))
		dst = binary.AppendUvarint(dst, uint64(len(op.Key)))
		dst = append(dst, op.Key...)
		dst = binary.AppendUvarint(dst, uint64(op.Expect))
		if op.Kind == Put {
			ttl := max(0, op.TTL)
			dst = binary.AppendUvarint(dst, uint64((ttl+time.Millisecond-1)/time.Millisecond))
			dst = binary.AppendUvarint(dst, uint64(len(op.Value)))
			dst = append(dst, op.Value...)
		}
	}
	return dst
}

// EncodeTxns makes a command of transactions encoded by AppendTxn. now is the
// time that their deadlines count from.
func EncodeTxns(now time.Time, txns ...[]byte) []byte {
	return encodeParts(kindTxns, now, len(txns), txns)
}

func encodeParts(kind byte, now time.Time, count int, parts [][]byte) []byte {
	size := 2 * binary.MaxVarintLen64
	for _, p := range parts {
		size += len(p)
	}
	body := make([]byte, commandHeader, commandHeader+size)
	body = binary.AppendUvarint(body, uint64(now.UnixMilli()))
	body = binary.AppendUvarint(body, uint64(count))
	for _, p := range parts {
		body = append(body, p...)
	}
	return seal(kind, body)
}

// EncodeExpire makes the command that deletes at most limit keys whose
// deadline is at or before now.
func EncodeExpire(now time.Time, limit int) []byte {
	body := make([]byte, commandHeader, commandHeader+2*binary.MaxVarintLen64)
	body = binary.AppendUvarint(body, uint64(now.UnixMilli()))
	return seal(kindExpire, binary.AppendUvarint(body, uint64(limit)))
}

// EncodeCompact makes the command that drops history up to rev.
func EncodeCompact(now time.Time, rev Revision) []byte {
	body := make([]byte, commandHeader, commandHeader+2*binary.MaxVarintLen64)
	body = binary.AppendUvarint(body, uint64(now.UnixMilli()))
	return seal(kindCompact, binary.AppendUvarint(body, uint64(rev)))
}

// seal compresses the body behind the header and fills the header in.
func seal(kind byte, b []byte) []byte {
	var flags byte
	if body := b[commandHeader:]; len(body) >= compressFrom {
		packed := make([]byte, commandHeader+s2.MaxEncodedLen(len(body)))
		if n := len(s2.Encode(packed[commandHeader:], body)); n < len(body) {
			b, flags = slices.Clip(packed[:commandHeader+n]), flagS2
		}
	}
	b[0], b[1], b[2] = commandFormat, kind, flags
	binary.LittleEndian.PutUint32(b[3:], crc32.Checksum(b[commandHeader:], castagnoli))
	return b
}

// command is a command with its body unpacked; limit and rev depend on kind.
type command struct {
	kind  byte
	now   int64
	txns  int // or groups
	limit int
	rev   Revision
	body  []byte // the transactions
}

// decodedOp refers to the bytes of its command.
type decodedOp struct {
	kind   Kind
	key    string // a copy
	value  []byte
	expect Expect
	ttl    int64 // milliseconds
}

func decodeCommand(b []byte) (command, error) {
	if len(b) < commandHeader {
		return command{}, fmt.Errorf("command: %w: %d bytes", ErrCorrupt, len(b))
	}
	if b[0] != commandFormat {
		return command{}, fmt.Errorf("command: format %d: %w", b[0], ErrNewerFormat)
	}
	c := command{kind: b[1]}
	body := b[commandHeader:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[3:]) {
		return command{}, fmt.Errorf("command: %w: checksum differs", ErrCorrupt)
	}
	body, err := unpack(b[2], body)
	if err != nil {
		return command{}, err
	}
	r := reader{b: body}
	c.now = r.int()
	n := r.uvarint()
	switch c.kind {
	case kindTxns, kindGroups:
		c.txns = r.count(n)
	case kindExpire:
		c.limit = int(min(n, math.MaxInt32))
	case kindCompact:
		c.rev = Revision(n)
	default:
		return command{}, fmt.Errorf("command: kind %d: %w", c.kind, ErrNewerFormat)
	}
	if r.bad {
		return command{}, fmt.Errorf("command: %w: body of %d bytes ends early", ErrCorrupt, len(body))
	}
	c.body = r.b
	return c, nil
}

func unpack(flags byte, body []byte) ([]byte, error) {
	switch flags {
	case 0:
		return body, nil
	case flagS2:
		n, err := s2.DecodedLen(body)
		if err != nil || n > maxBody {
			return nil, fmt.Errorf("command: %w: unpacks to %d bytes, at most %d", ErrCorrupt, n, maxBody)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, fmt.Errorf("command: %w: %w", ErrCorrupt, err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("command: flags %#x: %w", flags, ErrNewerFormat)
}

// decodeTxn appends the operations of the first transaction in b to ops and
// returns the rest of b.
func decodeTxn(ops []decodedOp, b []byte) ([]decodedOp, []byte, error) {
	r := reader{b: b}
	n := r.count(r.uvarint())
	r.bad = r.bad || n == 0
	for range n {
		op := decodedOp{kind: Kind(r.byte())}
		op.key = string(r.bytes())
		op.expect = Expect(r.uvarint())
		switch op.kind {
		case Put:
			op.ttl = r.int()
			op.value = r.bytes()
		case Delete, Check:
		default:
			r.bad = true
		}
		if r.bad {
			break
		}
		ops = append(ops, op)
	}
	if r.bad {
		return ops, nil, fmt.Errorf("command: %w: transaction ends early or has an unknown operation", ErrCorrupt)
	}
	return ops, r.b, nil
}

// reader takes values off the front of b and remembers if one was not there.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.b, r.bad = nil, true
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// int is a uvarint of milliseconds, bounded so that sums cannot overflow.
func (r *reader) int() int64 {
	v := r.uvarint()
	if v > math.MaxInt64/4 {
		r.bad = true
		return 0
	}
	return int64(v)
}

// count bounds a number of elements by the bytes that are left, since each
// takes at least one.
func (r *reader) count(n uint64) int {
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.count(r.uvarint())
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}
