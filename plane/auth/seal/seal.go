// Package seal encrypts values at rest: XSalsa20-Poly1305 (NaCl secretbox) with
// keys from one file that is made at first start. It knows bytes and keys; it
// never learns which resource a value belongs to.
//
//	keys, err := seal.LoadOrCreate(dir)
//	transformer := keys.Transformer()
//
// Sealed values read "k8s:enc:secretbox:v1:KEYID:", a nonce of 24 bytes and the
// box, as Kubernetes' secretbox provider writes them.
package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"k8s.io/apiserver/pkg/storage/value"
)

// Prefix opens every sealed value; the key's id and a colon follow.
const Prefix = "k8s:enc:secretbox:v1:"

const nonceSize = 24

var (
	// ErrNotSealed says that stored bytes are not in the sealed format: written
	// without encryption, or damaged at their start.
	ErrNotSealed = errors.New("value is not sealed: it was stored without encryption, or its first bytes are damaged")
	// ErrDamaged says that the key is there but the value does not open with it.
	ErrDamaged = errors.New("value is damaged or sealed with another key of the same id: restore it, or the key file, from a backup")
)

// An UnknownKeyError says that a value was sealed with a key that the key file
// does not have.
type UnknownKeyError struct{ ID string }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("value is sealed with key %q, which is not in %s: restore that file from a backup that has the key", e.ID, FileName)
}

// Transformer returns the value.Transformer over these keys: it seals with the
// current key, opens with any, and reports values of older keys as stale so that
// they are written anew.
func (k *Keys) Transformer() value.Transformer { return transformer{k} }

type transformer struct{ keys *Keys }

func (t transformer) TransformToStorage(_ context.Context, data []byte, _ value.Context) ([]byte, error) {
	return t.keys.seal(data), nil
}

func (t transformer) TransformFromStorage(_ context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	out, stale, err := t.keys.open(data)
	if err == nil {
		return out, stale, nil
	}
	if dataCtx != nil && len(dataCtx.AuthenticatedData()) > 0 {
		return nil, false, fmt.Errorf("seal: open %q: %w", dataCtx.AuthenticatedData(), err)
	}
	return nil, false, fmt.Errorf("seal: open: %w", err)
}

func (k *Keys) seal(data []byte) []byte {
	key := &k.ring[0]
	head := len(Prefix) + len(key.id) + 1
	out := make([]byte, 0, head+nonceSize+secretbox.Overhead+len(data))
	out = append(out, Prefix...)
	out = append(out, key.id...)
	out = append(out, ':')
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	out = append(out, nonce[:]...)
	return secretbox.Seal(out, data, &nonce, &key.secret)
}

func (k *Keys) open(data []byte) (out []byte, stale bool, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(Prefix))
	if !ok {
		return nil, false, ErrNotSealed
	}
	// A bounded search: ids are short, ciphertext may be long.
	end := bytes.IndexByte(rest[:min(len(rest), maxIDLen+1)], ':')
	if end < 0 {
		return nil, false, ErrNotSealed
	}
	id, box := string(rest[:end]), rest[end+1:]
	for i := range k.ring {
		if k.ring[i].id == id {
			out, err := k.ring[i].open(box)
			return out, i > 0, err
		}
	}
	return nil, false, &UnknownKeyError{ID: id}
}

func (k *key) open(box []byte) ([]byte, error) {
	if len(box) < nonceSize+secretbox.Overhead {
		return nil, ErrDamaged
	}
	nonce := [nonceSize]byte(box[:nonceSize])
	out, ok := secretbox.Open(make([]byte, 0, len(box)-nonceSize-secretbox.Overhead), box[nonceSize:], &nonce, &k.secret)
	if !ok {
		return nil, ErrDamaged
	}
	return out, nil
}
