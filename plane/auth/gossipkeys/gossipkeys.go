// Package gossipkeys rotates the key that seals the cluster's gossip, so that a
// machine which was put out does not listen on. It is pure: a ring of keys goes
// in with the time, what was asked for and whether all have followed, and the
// next ring comes out. It never learns where the ring is kept or who follows it.
//
//	ring := gossipkeys.New(gossip.NewKey(), now)
//	next, again := ring.Next(gossipkeys.Facts{Now: now, Want: revocations, Acked: all, Fresh: gossip.NewKey})
//	err := gossipkeys.Apply(g.Keys(), ring, next) // on each member
//
// No message is lost on the way, because each step begins only when the one
// before it is done on every member that is alive: all can open with the new key
// before any seals with it, and all seal with it before the old one is refused.
package gossipkeys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Phase is how far a rotation has come.
type Phase string

const (
	Steady  Phase = "steady"  // one key
	Waiting Phase = "waiting" // one key; whoever is put out is being cut off first
	Adding  Phase = "adding"  // the old key seals, both open
	Using   Phase = "using"   // the new key seals, both open
)

const (
	// Grace is the time between a revocation and the new key, in which every API
	// server stops talking to the machine: it must not be told the key.
	Grace = 2 * time.Second
	// StepLimit is how long one step waits for members that do not follow. They
	// get the key over the API when they are back.
	StepLimit = 10 * time.Second

	keySize     = 32
	maxKeys     = 2
	maxEncoded  = 4 << 10
	ringVersion = 1
)

// A Ring is the cluster's keys: the first seals, all of them open.
type Ring struct {
	Version int      `json:"version"`
	Keys    [][]byte `json:"keys"`
	Phase   Phase    `json:"phase"`
	// Generation grows with every change of Keys. Members tell which they have.
	Generation uint64 `json:"generation"`
	// Since is when Phase began.
	Since time.Time `json:"since"`
	// Covers is the number of revocations that the newest key came after.
	Covers uint64 `json:"covers"`
}

// New is the ring of a new cluster.
func New(key []byte, now time.Time) Ring {
	return Ring{Version: ringVersion, Keys: [][]byte{key}, Phase: Steady, Generation: 1, Since: now.UTC()}
}

// Facts are what a step depends on.
type Facts struct {
	Now   time.Time
	Want  uint64 // revocations so far: a higher number than Covers asks for a new key
	Acked bool   // every member that is alive has this Generation
	Fresh func() []byte
}

// Next returns the ring that should be stored now, and after which time to ask
// again; 0: when something changes. Generation and Phase tell whether it differs.
func (r Ring) Next(f Facts) (next Ring, again time.Duration) {
	// Leaders' clocks differ: a step never takes longer for that.
	took := f.Now.Sub(r.Since).Abs()
	begin := func(p Phase) { r.Phase, r.Since = p, f.Now.UTC() }
	switch r.Phase {
	case Steady:
		if f.Want <= r.Covers {
			return r, 0
		}
		begin(Waiting)
		return r, Grace
	case Waiting:
		if took < Grace {
			return r, Grace - took
		}
		begin(Adding)
		r.Keys = [][]byte{r.Keys[0], f.Fresh()}
		r.Covers = f.Want
	case Adding:
		if !f.Acked && took < StepLimit {
			return r, StepLimit - took
		}
		begin(Using)
		r.Keys = [][]byte{r.Keys[1], r.Keys[0]}
	case Using:
		if !f.Acked && took < StepLimit {
			return r, StepLimit - took
		}
		begin(Steady)
		r.Keys = r.Keys[:1:1]
		r.Generation++
		if f.Want > r.Covers {
			return r, time.Millisecond
		}
		return r, 0
	}
	r.Generation++
	return r, StepLimit
}

// Encode returns the stored form: secret.
func (r Ring) Encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	return data, nil
}

// Decode is the inverse of Encode.
func Decode(data []byte) (Ring, error) {
	if len(data) > maxEncoded {
		return Ring{}, fmt.Errorf("gossip keys: %d bytes, at most %d are read", len(data), maxEncoded)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r Ring
	if err := dec.Decode(&r); err != nil {
		return Ring{}, fmt.Errorf("gossip keys: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Ring{}, errors.New("gossip keys: more than one JSON value")
	}
	return r, r.check()
}

func (r Ring) check() error {
	want := 1
	switch r.Phase {
	case Steady, Waiting:
	case Adding, Using:
		want = maxKeys
	default:
		return fmt.Errorf("gossip keys: phase %q is unknown", r.Phase)
	}
	if r.Version != ringVersion {
		return fmt.Errorf("gossip keys: version %d, this one reads %d", r.Version, ringVersion)
	}
	if len(r.Keys) != want {
		return fmt.Errorf("gossip keys: %d keys while %s, want %d", len(r.Keys), r.Phase, want)
	}
	for i, k := range r.Keys {
		if len(k) != keySize {
			return fmt.Errorf("gossip keys: key %d has %d bytes, want %d", i, len(k), keySize)
		}
	}
	if want == maxKeys && bytes.Equal(r.Keys[0], r.Keys[1]) {
		return errors.New("gossip keys: one key twice")
	}
	return nil
}

// A Keyring is one member's keys; *gossip.Keyring is one.
type Keyring interface {
	Add(key []byte) error
	Use(key []byte) error
	Remove(key []byte) error
}

// Apply brings a member from one ring to another, any steps in between included.
// It may be repeated.
func Apply(k Keyring, from, to Ring) error {
	for _, key := range to.Keys {
		if err := k.Add(key); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := k.Use(to.Keys[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	for _, old := range from.Keys {
		if slices.ContainsFunc(to.Keys, func(key []byte) bool { return bytes.Equal(key, old) }) {
			continue
		}
		if err := k.Remove(old); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	return nil
}
