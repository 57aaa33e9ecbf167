package mvcc_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/klauspost/compress/s2"
)

// A command that cannot be read does nothing; one that can is executed alike
// by two machines.
func FuzzCommandIsReadOrRefusedAsAWhole(f *testing.F) {
	txn := mvcc.AppendTxn(nil, mvcc.Txn{
		{Kind: mvcc.Put, Key: "a", Value: bytes.Repeat([]byte("x"), 600), TTL: time.Second},
		{Kind: mvcc.Delete, Key: "b", Expect: mvcc.Exact(1)},
		{Kind: mvcc.Check, Key: "c", Expect: mvcc.Absent},
	})
	f.Add(mvcc.EncodeTxns(time.UnixMilli(5), txn), true)
	f.Add(mvcc.EncodeTxns(time.UnixMilli(5), txn[:3]), true)
	f.Add(mvcc.EncodeGroups(time.UnixMilli(5), 1, mvcc.AppendGroup(nil, mvcc.Group{Session: 9, Seq: 2, Lowest: 1}, txn)), true)
	f.Add(mvcc.EncodeExpire(time.UnixMilli(99), 10), true)
	f.Add(mvcc.EncodeCompact(time.UnixMilli(7), 1), false)
	f.Fuzz(func(t *testing.T, command []byte, fix bool) {
		if fix && len(command) >= 7 { // let the fuzzer past the checksum
			binary.LittleEndian.PutUint32(command[3:], crc32.Checksum(command[7:], crc32.MakeTable(crc32.Castagnoli)))
		}
		one, two := mvcc.NewMachine(mvcc.Limits{}), mvcc.NewMachine(mvcc.Limits{})
		for range 2 {
			_, err := one.Apply(command)
			_, again := two.Apply(command)
			if (err == nil) != (again == nil) {
				t.Fatalf("got %v and %v, want the same", err, again)
			}
			if err != nil && !errors.Is(err, mvcc.ErrCorrupt) && !errors.Is(err, mvcc.ErrNewerFormat) {
				t.Fatalf("got %v, want ErrCorrupt or ErrNewerFormat", err)
			}
			if rev := one.Publish().Revision(); err != nil && rev != 0 {
				t.Fatalf("got revision %d after %v, want 0", rev, err)
			}
		}
		var a, b bytes.Buffer
		if err := errors.Join(one.Image().Write(&a), two.Image().Write(&b)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatal("got two states from one command, want the same")
		}
	})
}

// An image that is accepted is a state that can be written and read again.
func FuzzImageIsReadOrRefused(f *testing.F) {
	for _, value := range []string{"", "v", string(bytes.Repeat([]byte("long"), 1000))} {
		m := mvcc.NewMachine(mvcc.Limits{})
		txn := mvcc.AppendTxn(nil, mvcc.Txn{{Kind: mvcc.Put, Key: "k", Value: []byte(value), TTL: time.Second}})
		if _, err := m.Apply(mvcc.EncodeTxns(time.UnixMilli(1), txn)); err != nil {
			f.Fatal(err)
		}
		if _, err := m.Apply(mvcc.EncodeGroups(time.UnixMilli(1), 1, mvcc.AppendGroup(nil, mvcc.Group{Session: 9, Seq: 2, Lowest: 1}, txn))); err != nil {
			f.Fatal(err)
		}
		var image bytes.Buffer
		if err := m.Image().Write(&image); err != nil {
			f.Fatal(err)
		}
		f.Add(image.Bytes(), true)
	}
	f.Fuzz(func(t *testing.T, image []byte, fix bool) {
		if fix {
			fixFrames(image)
		}
		m, err := mvcc.ReadImage(bytes.NewReader(image), mvcc.Limits{})
		if err != nil {
			if !errors.Is(err, mvcc.ErrCorrupt) && !errors.Is(err, mvcc.ErrNewerFormat) {
				t.Fatalf("got %v, want ErrCorrupt or ErrNewerFormat", err)
			}
			return
		}
		var again bytes.Buffer
		if err := m.Image().Write(&again); err != nil {
			t.Fatal(err)
		}
		if _, err := mvcc.ReadImage(&again, mvcc.Limits{}); err != nil {
			t.Fatalf("got %v for what was just written, want it read", err)
		}
	})
}

// fixFrames makes the checksums of an image right, so that the fuzzer gets to
// the records.
func fixFrames(image []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for at := 9; at+8 <= len(image); {
		n := int(binary.LittleEndian.Uint32(image[at:]))
		if n == 0 {
			if at+20 <= len(image) {
				binary.LittleEndian.PutUint32(image[at+16:], sum)
			}
			return
		}
		if n > len(image)-at-8 {
			return
		}
		block := crc32.Checksum(image[at+8:at+8+n], table)
		binary.LittleEndian.PutUint32(image[at+4:], block)
		sum = crc32.Update(sum, table, image[at+4:at+8])
		at += 8 + n
	}
}

// frame makes the rest of an image of one block.
func frame(raw []byte) []byte {
	block := s2.Encode(nil, raw)
	table := crc32.MakeTable(crc32.Castagnoli)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(block)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(block, table))
	b = append(b, block...)
	sum := crc32.Update(0, table, b[4:8])
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint64(b, 1)
	return binary.LittleEndian.AppendUint32(b, sum)
}
