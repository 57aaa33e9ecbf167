package gossip

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Keyring holds the keys of one member: the first seals what it sends, all of
// them open what it receives. It is safe for concurrent use, and a change takes
// effect at once.
//
// A cluster rotates without losing a message in three steps, each begun only
// when the one before it is done on every member:
//
//  1. Add the new key everywhere: all can open it, nobody uses it.
//  2. Use the new key everywhere: some seal with the old, some with the new,
//     and all open both.
//  3. Remove the old key everywhere: whoever has only that is shut out.
//
// Each call may be repeated, so an interrupted rotation is simply done again.
// A member that was away meanwhile is refused until it is given the new key,
// over something other than gossip. The ring is not written to disk: its owner
// does that, before Use.
type Keyring struct {
	mu   sync.Mutex // serialises those who change it
	keys atomic.Pointer[[]ringKey]
}

type ringKey struct {
	id     KeyID
	sum    [sha256.Size]byte
	sealer *sealer
}

// MaxKeys is how many keys a ring holds: each costs an attempt to open whatever
// a stranger sends.
const MaxKeys = 4

// KeyID names a key without giving it away: 8 hexadecimal digits of its
// SHA-256.
type KeyID string

var (
	ErrNoKeys      = errors.New("no key: gossip is always encrypted, give at least one of 32 bytes")
	ErrKeySize     = errors.New("key does not have 32 bytes (AES-256)")
	ErrKeyUnknown  = errors.New("key is not on the ring: Add it on every member first")
	ErrKeyInUse    = errors.New("key seals what this member sends: Use another on every member first")
	ErrKeyringFull = errors.New("keyring is full: Remove the key that is no longer used")
)

// NewKey returns a fresh key.
func NewKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, by its contract
	return key
}

// IDOf returns the name of key.
func IDOf(key []byte) KeyID {
	sum := sha256.Sum256(key)
	return KeyID(hex.EncodeToString(sum[:4]))
}

func newKeyring(keys [][]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	k := &Keyring{}
	k.keys.Store(new([]ringKey))
	for i, key := range keys {
		if err := k.add(key); err != nil {
			return nil, fmt.Errorf("field Keys[%d]: %w", i, err)
		}
	}
	return k, nil
}

// IDs returns the names of all keys, that of the sealing key first.
func (k *Keyring) IDs() []KeyID {
	var ids []KeyID
	for _, r := range *k.keys.Load() {
		ids = append(ids, r.id)
	}
	return ids
}

// Add lets this member open what is sealed with key. A key that is there
// already is no error. Errors: ErrKeySize, ErrKeyringFull.
func (k *Keyring) Add(key []byte) error {
	return named(k.add(key))
}

func (k *Keyring) add(key []byte) error {
	if len(key) != keySize {
		return fmt.Errorf("%w but %d", ErrKeySize, len(key))
	}
	return k.change(key, func(keys []ringKey, at int) ([]ringKey, error) {
		if at >= 0 {
			return keys, nil
		}
		if len(keys) == MaxKeys {
			return nil, ErrKeyringFull
		}
		s, err := newSealer(key)
		if err != nil {
			return nil, err
		}
		return append(keys, ringKey{id: IDOf(key), sum: sha256.Sum256(key), sealer: s}), nil
	})
}

// Use seals everything from now on with key. Errors: ErrKeyUnknown.
func (k *Keyring) Use(key []byte) error {
	return named(k.change(key, func(keys []ringKey, at int) ([]ringKey, error) {
		if at < 0 {
			return nil, ErrKeyUnknown
		}
		used := keys[at]
		return slices.Insert(slices.Delete(keys, at, at+1), 0, used), nil
	}))
}

// Remove refuses from now on what is sealed with key. A key that is not there
// is no error. Errors: ErrKeyInUse.
func (k *Keyring) Remove(key []byte) error {
	return named(k.change(key, func(keys []ringKey, at int) ([]ringKey, error) {
		switch {
		case at == 0:
			return nil, ErrKeyInUse
		case at < 0:
			return keys, nil
		}
		return slices.Delete(keys, at, at+1), nil
	}))
}

// change gives f a copy of the ring and the place of key in it, or -1.
func (k *Keyring) change(key []byte, f func([]ringKey, int) ([]ringKey, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := sha256.Sum256(key)
	keys := slices.Clone(*k.keys.Load())
	keys, err := f(keys, slices.IndexFunc(keys, func(r ringKey) bool { return r.sum == sum }))
	if err != nil {
		return fmt.Errorf("key %s: %w", IDOf(key), err)
	}
	k.keys.Store(&keys)
	return nil
}

// named puts the package in front of an error that leaves it.
func named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gossip: %w", err)
}

func (k *Keyring) seal(dst, plain []byte, context string) []byte {
	return (*k.keys.Load())[0].sealer.seal(dst, plain, context)
}

func (k *Keyring) open(sealed []byte, context string) ([]byte, error) {
	for _, r := range *k.keys.Load() {
		if plain, err := r.sealer.open(sealed, context); err == nil {
			return plain, nil
		}
	}
	return nil, errSeal
}
