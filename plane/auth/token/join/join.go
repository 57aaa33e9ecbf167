// Package join is the token that lets a new machine into a cluster: how it is
// written, read, kept and spent. It is pure: no clock, no disk, no network. It
// knows the hash of a cluster's CA and of a secret; it never learns what a
// machine may do once it is in, and it never keeps the secret.
//
//	tok, rec, err := join.New(join.Spec{Pin: ca.Hash(), Now: now})  // plane: store rec, print tok
//	tok, err := join.Parse(arg)                                      // joiner
//	config := tok.TLS()                                              // joiner: talks to that CA only
//	rec, err := rec.Spend(tok.Secret, now)                           // plane: store rec, by compare and swap
//
// Record keeps SHA-256 of a secret of 160 random bits: a stolen store cannot be
// turned back into tokens, and no slow hash is needed for what nobody can guess.
package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Role is what the machine may become.
type Role string

const (
	RoleNode  Role = "node"  // runs pods
	RolePlane Role = "plane" // may also vote
)

// Bounds of a token.
const (
	DefaultTTL = time.Hour
	MaxTTL     = 30 * 24 * time.Hour
	MaxUses    = 10000
)

const (
	version   = "cpd1"
	idLen     = 8  // base32 characters, 40 bits: not secret
	secretLen = 32 // base32 characters, 160 bits
	checkLen  = 6  // base32 characters, 30 bits, against typing errors only
	pinLen    = 64 // hex characters, SHA-256
	pinPrefix = "sha256:"

	alphabet    = "abcdefghijklmnopqrstuvwxyz234567"
	hexAlphabet = "0123456789abcdef"

	// tokenLen is the length of every token: five parts and four dots.
	tokenLen = len(version) + idLen + secretLen + pinLen + checkLen + 4
)

// What is wrong with a token as it was typed.
var (
	ErrForm     = errors.New("not a join token: it looks like cpd1.ID.SECRET.CA.CHECK, paste the whole line that `copepod token create` printed")
	ErrVersion  = errors.New("join token is of another version: run the same copepod version here as on the cluster")
	ErrMistyped = errors.New("join token was mistyped or cut: paste it again, whole")
)

// A Token is what travels: to whoever joins, once, by hand.
type Token struct {
	ID     string // names the Record
	Secret string // only ever sent to a server whose CA has the pin
	Pin    string // "sha256:" and hex, as certs.Hash writes it
}

// String encodes the token, secret included, in one word.
func (t Token) String() string {
	body := strings.Join([]string{version, t.ID, t.Secret, strings.TrimPrefix(t.Pin, pinPrefix)}, ".")
	return body + "." + checksum(body)
}

// Redacted is for logs and lists: enough to tell tokens apart.
func (t Token) Redacted() string { return version + "." + t.ID + ".…" }

// Parse reads a token as a person pasted it: white space around it and upper case
// are forgiven. Errors are ErrForm, ErrVersion and ErrMistyped.
func Parse(s string) (Token, error) {
	if len(s) > 2*tokenLen { // before any work on what may be anything
		return Token{}, ErrForm
	}
	s = strings.ToLower(strings.TrimSpace(s))
	parts := strings.Split(s, ".")
	if len(parts) != 5 {
		return Token{}, ErrForm
	}
	if parts[0] != version {
		if strings.HasPrefix(parts[0], strings.TrimRight(version, "0123456789")) {
			return Token{}, ErrVersion
		}
		return Token{}, ErrForm
	}
	if len(s) != tokenLen || checksum(strings.Join(parts[:4], ".")) != parts[4] {
		return Token{}, ErrMistyped
	}
	t := Token{ID: parts[1], Secret: parts[2], Pin: pinPrefix + parts[3]}
	if !isWord(t.ID, idLen, alphabet) || !isWord(t.Secret, secretLen, alphabet) || !isWord(parts[3], pinLen, hexAlphabet) {
		return Token{}, ErrForm
	}
	return t, nil
}

func isWord(s string, n int, alphabet string) bool {
	return len(s) == n && strings.Trim(s, alphabet) == ""
}

func checksum(body string) string {
	sum := sha256.Sum256([]byte(body))
	return word(sum[:], checkLen)
}

// word writes five bits of b a character.
func word(b []byte, n int) string {
	out := make([]byte, n)
	for i := range out {
		bit := i * 5
		pair := uint16(b[bit/8]) << 8
		if bit/8+1 < len(b) {
			pair |= uint16(b[bit/8+1])
		}
		out[i] = alphabet[pair>>(11-bit%8)&31]
	}
	return string(out)
}

// A Spec describes a token to make.
type Spec struct {
	Pin  string        // the CA's hash, as certs.Hash writes it
	Role Role          // empty = RoleNode
	Uses int           // how many machines may join; 0 = 1
	TTL  time.Duration // 0 = DefaultTTL
	Note string        // for `copepod token list`; at most 200 bytes
	Now  time.Time
}

func (s *Spec) validate() error {
	if s.Role == "" {
		s.Role = RoleNode
	}
	if s.Uses == 0 {
		s.Uses = 1
	}
	if s.TTL == 0 {
		s.TTL = DefaultTTL
	}
	switch {
	case !isWord(strings.TrimPrefix(s.Pin, pinPrefix), pinLen, hexAlphabet):
		return fmt.Errorf("hash of the CA %q is not sha256: and 64 hex digits", s.Pin)
	case s.Role != RoleNode && s.Role != RolePlane:
		return fmt.Errorf("role %q is neither %s nor %s", s.Role, RoleNode, RolePlane)
	case s.Uses < 0 || s.Uses > MaxUses:
		return fmt.Errorf("%d uses, want 1 to %d", s.Uses, MaxUses)
	case s.TTL < 0 || s.TTL > MaxTTL:
		return fmt.Errorf("lives %s, want at most %s", s.TTL, MaxTTL)
	case len(s.Note) > maxNote:
		return fmt.Errorf("note has %d bytes, at most %d are kept", len(s.Note), maxNote)
	case s.Now.IsZero():
		return errors.New("time is not set")
	}
	return nil
}

// New makes a token and the record of it that the plane keeps.
func New(s Spec) (Token, Record, error) {
	if err := s.validate(); err != nil {
		return Token{}, Record{}, fmt.Errorf("join token: %w", err)
	}
	random := make([]byte, 25)
	rand.Read(random) // never fails: crypto/rand ends the process instead
	t := Token{
		ID:     word(random[:5], idLen),
		Secret: word(random[5:], secretLen),
		Pin:    pinPrefix + strings.TrimPrefix(s.Pin, pinPrefix),
	}
	rec := Record{
		Version: recordVersion,
		ID:      t.ID,
		Hash:    hashSecret(t.ID, t.Secret),
		Role:    s.Role,
		Uses:    s.Uses,
		Created: s.Now.UTC(),
		Expires: s.Now.UTC().Add(s.TTL),
		Note:    s.Note,
	}
	return t, rec, nil
}

// hashSecret binds the hash to the id, so that records cannot trade secrets.
func hashSecret(id, secret string) string {
	sum := sha256.Sum256([]byte(version + "." + id + "." + secret))
	return hex.EncodeToString(sum[:])
}
