package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"

	"copepod/plane/auth/keyfile"
)

// KeyFile is the name of the key file inside the directory given to
// LoadOrCreateKeys, mode 0600: PKCS #8 blocks in PEM, ECDSA P-256. The first
// signs; all verify.
const KeyFile = "sa.key"

const algorithm = jose.ES256

// maxKeys bounds a key file: every token without a known key id tries none, but
// the JWKS document lists all.
const maxKeys = 16

// Keys sign and verify tokens. It never changes and is safe for concurrent use.
type Keys struct {
	ring []signingKey // the one that signs first, never empty
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

// LoadOrCreateKeys reads the signing keys in dir, or makes the first. It returns
// *keyfile.PermissionError if others could have read them.
func LoadOrCreateKeys(dir string) (*Keys, error) {
	path := filepath.Join(dir, KeyFile)
	data, err := keyfile.LoadOrCreate(path, freshKey)
	if err != nil {
		return nil, fmt.Errorf("token: keys: %w", err)
	}
	keys, err := ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("token: keys: %s: %w", path, err)
	}
	return keys, nil
}

// RotateKeys puts a fresh signing key before those in dir, which still verify
// what they signed, and drops the oldest beyond keep.
func RotateKeys(dir string, keep int) (*Keys, error) {
	old, err := LoadOrCreateKeys(dir)
	if err != nil {
		return nil, err
	}
	data, err := freshKey()
	if err != nil {
		return nil, fmt.Errorf("token: keys: %w", err)
	}
	for _, k := range old.ring[:min(len(old.ring), max(keep, 1)-1)] {
		block, err := encodeKey(k.private)
		if err != nil {
			return nil, fmt.Errorf("token: keys: %w", err)
		}
		data = append(data, block...)
	}
	if err := keyfile.Write(filepath.Join(dir, KeyFile), data); err != nil {
		return nil, fmt.Errorf("token: keys: %w", err)
	}
	return ParseKeys(data)
}

// ParseKeys reads the content of a key file.
func ParseKeys(data []byte) (*Keys, error) {
	keys := &Keys{}
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "PRIVATE KEY" {
			return nil, errors.New("not PEM blocks PRIVATE KEY: the file is damaged, restore it from a backup")
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("key is %T, want ECDSA P-256", parsed)
		}
		id, err := keyID(private)
		if err != nil {
			return nil, err
		}
		if keys.ring = append(keys.ring, signingKey{id: id, private: private}); len(keys.ring) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	if len(keys.ring) == 0 {
		return nil, errors.New("no keys: the file was cut short, restore it from a backup, or remove it to void all tokens")
	}
	return keys, nil
}

// public finds the key that a token names in its header.
func (k *Keys) public(id string) (*ecdsa.PublicKey, bool) {
	for i := range k.ring {
		if k.ring[i].id == id {
			return &k.ring[i].private.PublicKey, true
		}
	}
	return nil, false
}

func (k *Keys) signer() (jose.Signer, error) {
	key := jose.JSONWebKey{Key: k.ring[0].private, KeyID: k.ring[0].id, Algorithm: string(algorithm)}
	return jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
}

// keyID derives an id from the public key as Kubernetes does, so that every
// process finds the same one without talking.
func keyID(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func freshKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return encodeKey(key)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
