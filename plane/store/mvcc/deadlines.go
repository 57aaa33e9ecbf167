package mvcc

import (
	"encoding/binary"

	"github.com/tidwall/btree"
)

// deadlines orders the keys that expire by when they do. Like the tree of
// keys it is copied when published.
type deadlines struct {
	set btree.Map[string, struct{}] // big-endian deadline, then the key
}

func deadlineKey(at int64, key string) string {
	b := make([]byte, 8, 8+len(key))
	binary.BigEndian.PutUint64(b, uint64(at))
	return string(append(b, key...))
}

// replace moves a key from the deadline of prev to that of cur; both may be
// nil or without one.
func (d *deadlines) replace(prev, cur *KV) {
	if prev != nil && prev.Expires != 0 {
		d.set.Delete(deadlineKey(prev.Expires, prev.Key))
	}
	if cur != nil && cur.Expires != 0 {
		d.set.Set(deadlineKey(cur.Expires, cur.Key), struct{}{})
	}
}

func (d *deadlines) first() (int64, bool) {
	k, _, ok := d.set.Min()
	if !ok {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64([]byte(k[:8]))), true
}

// due lists at most limit keys whose deadline is at or before now.
func (d *deadlines) due(now int64, limit int) []string {
	var keys []string
	d.set.Scan(func(k string, _ struct{}) bool {
		if int64(binary.BigEndian.Uint64([]byte(k[:8]))) > now || len(keys) == limit {
			return false
		}
		keys = append(keys, k[8:])
		return true
	})
	return keys
}

func (d *deadlines) copy() *deadlines { return &deadlines{set: *d.set.Copy()} }
