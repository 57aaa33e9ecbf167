// Package revoke is the list of machines that are members no more: whose
// certificates count for nothing although they have not expired. It knows node
// names, key hashes and times; it never learns where the list is kept, and it
// trusts that a certificate was verified otherwise.
//
//	var list revoke.List // refuses nobody yet
//	list.Set(entries)    // whenever the stored list changes
//	err := list.Check(cert)
//
// A machine that joins again under the name is not refused: its certificates are
// younger than the entry.
package revoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"copepod/plane/auth/certs"
)

const (
	// Keep is how long an entry is needed: no certificate that names a node lives
	// longer.
	Keep = certs.ServerLifetime + time.Hour

	// MaxEntries bounds the list; more machines than that do not leave within
	// Keep.
	MaxEntries = 5000

	listVersion = 1
	maxEncoded  = 1 << 20
	maxName     = 253
	maxKeys     = 4
)

// ErrFull says that there is no room for a further entry.
var ErrFull = fmt.Errorf("list of revoked nodes is full: %d left within %s", MaxEntries, Keep)

// An Entry refuses certificates of one node.
type Entry struct {
	Node string `json:"node"`
	// At is when it was revoked: certificates issued later are good.
	At time.Time `json:"at"`
	// Keys are hashes of public keys (certs.KeyHash) that are refused whenever
	// their certificate was issued.
	Keys []string `json:"keys,omitempty"`
}

// Entries is the whole list as it is stored. It is a value: its methods return
// changed copies.
type Entries struct {
	Version int `json:"version"`
	// Sequence grows with every addition, so that others can tell what they have
	// acted upon.
	Sequence uint64  `json:"sequence"`
	Entries  []Entry `json:"entries"`
}

// Add returns the list with one more entry, without those that have expired. An
// older entry of the node is replaced, and its keys stay refused.
func (l Entries) Add(e Entry) (Entries, error) {
	if err := e.check(); err != nil {
		return l, fmt.Errorf("revoke: %w", err)
	}
	out := l.Expire(e.At)
	out.Sequence++
	i := slices.IndexFunc(out.Entries, func(old Entry) bool { return old.Node == e.Node })
	if i >= 0 {
		e.Keys = newest(append(slices.Clone(out.Entries[i].Keys), e.Keys...))
		if old := out.Entries[i].At; e.At.Before(old) { // clocks differ
			e.At = old
		}
		out.Entries[i] = e
		return out, nil
	}
	if len(out.Entries) >= MaxEntries {
		return l, fmt.Errorf("revoke: node %q: %w", e.Node, ErrFull)
	}
	out.Entries = append(out.Entries, e)
	return out, nil
}

// newest drops repetitions, and the oldest keys beyond the bound.
func newest(keys []string) []string {
	var out []string
	for _, k := range keys {
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out[max(0, len(out)-maxKeys):]
}

// Expire returns the list without entries that no certificate needs any more.
func (l Entries) Expire(now time.Time) Entries {
	l.Version = listVersion
	l.Entries = slices.DeleteFunc(slices.Clone(l.Entries), func(e Entry) bool { return now.Sub(e.At) > Keep })
	return l
}

// Find returns the entry of a node.
func (l Entries) Find(node string) (Entry, bool) {
	i := slices.IndexFunc(l.Entries, func(e Entry) bool { return e.Node == node })
	if i < 0 {
		return Entry{}, false
	}
	return l.Entries[i], true
}

// Encode returns the stored form.
func (l Entries) Encode() ([]byte, error) {
	l.Version = listVersion
	if l.Entries == nil {
		l.Entries = []Entry{}
	}
	data, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return data, nil
}

// Decode is the inverse of Encode. It refuses what it does not know: an entry
// that is overlooked lets somebody in.
func Decode(data []byte) (Entries, error) {
	if len(data) > maxEncoded {
		return Entries{}, fmt.Errorf("revoke: list of %d bytes, at most %d are read", len(data), maxEncoded)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var l Entries
	if err := dec.Decode(&l); err != nil {
		return Entries{}, fmt.Errorf("revoke: list: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Entries{}, errors.New("revoke: list: more than one JSON value")
	}
	if l.Version != listVersion {
		return Entries{}, fmt.Errorf("revoke: list of version %d, this one reads %d", l.Version, listVersion)
	}
	if len(l.Entries) > MaxEntries {
		return Entries{}, fmt.Errorf("revoke: list of %d entries, at most %d are read", len(l.Entries), MaxEntries)
	}
	for _, e := range l.Entries {
		if err := e.check(); err != nil {
			return Entries{}, fmt.Errorf("revoke: list: %w", err)
		}
	}
	return l, nil
}

func (e Entry) check() error {
	switch {
	case e.Node == "" || len(e.Node) > maxName:
		return fmt.Errorf("node name of %d bytes", len(e.Node))
	case e.At.IsZero():
		return fmt.Errorf("node %q: no time", e.Node)
	case len(e.Keys) > maxKeys:
		return fmt.Errorf("node %q: %d keys, at most %d", e.Node, len(e.Keys), maxKeys)
	}
	for _, k := range e.Keys {
		if !strings.HasPrefix(k, "sha256:") || len(k) != len("sha256:")+64 {
			return fmt.Errorf("node %q: %q is not the hash of a key", e.Node, k)
		}
	}
	return nil
}
