package join

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	recordVersion = 1
	maxRecord     = 4 << 10
	maxNote       = 200
)

// Why the plane refuses a token. Each is told to the joiner as it stands; an
// unknown id and a wrong secret are one, so that ids cannot be probed.
var (
	ErrUnknown = errors.New("join token is not known to this cluster: it was deleted or belongs to another one; make a new one with `copepod token create`")
	ErrExpired = errors.New("join token has expired: make a new one with `copepod token create` (if it is fresh, compare the clocks of the two machines)")
	ErrUsedUp  = errors.New("join token has been used up: make a new one with `copepod token create`, or with --uses for several machines")
)

// A Record is what the plane keeps of a token, as JSON.
type Record struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Hash    string    `json:"hash"` // hex SHA-256 of id and secret
	Role    Role      `json:"role"`
	Uses    int       `json:"uses"`
	Used    int       `json:"used"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Note    string    `json:"note,omitempty"`
}

// Spend checks the secret and returns the record with one more use. The caller
// stores it with a compare-and-swap on the record it judged, before it signs
// anything: only then is a single use single.
func (r Record) Spend(secret string, now time.Time) (Record, error) {
	// Judged first: what is expired or used up is not for strangers to know.
	if !r.Authentic(secret) {
		return r, ErrUnknown
	}
	if !now.Before(r.Expires) {
		return r, fmt.Errorf("%w: it ended %s ago", ErrExpired, now.Sub(r.Expires).Round(time.Second))
	}
	if r.Used >= r.Uses {
		return r, ErrUsedUp
	}
	r.Used++
	return r, nil
}

// Authentic tells whether the secret is the token's, in constant time, and not
// whether the token may still be used.
func (r Record) Authentic(secret string) bool {
	got := hashSecret(r.ID, secret)
	return len(secret) == secretLen && subtle.ConstantTimeCompare([]byte(got), []byte(r.Hash)) == 1
}

// ValidID tells whether an id looks like that of a token.
func ValidID(id string) bool { return isWord(id, idLen, alphabet) }

// Live tells whether the token could still be used: records that are not may be
// removed.
func (r Record) Live(now time.Time) bool { return now.Before(r.Expires) && r.Used < r.Uses }

// Encode returns the stored form.
func (r Record) Encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("join record %s: %w", r.ID, err)
	}
	return data, nil
}

// DecodeRecord is the inverse of Encode. It refuses what this version does not
// know rather than dropping it.
func DecodeRecord(data []byte) (Record, error) {
	if len(data) > maxRecord {
		return Record{}, fmt.Errorf("join record: %d bytes, at most %d are read", len(data), maxRecord)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r Record
	if err := dec.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("join record: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Record{}, errors.New("join record: more than one JSON value")
	}
	switch {
	case r.Version != recordVersion:
		return Record{}, fmt.Errorf("join record: version %d, this one reads %d", r.Version, recordVersion)
	case !isWord(r.ID, idLen, alphabet) || !isWord(r.Hash, pinLen, hexAlphabet):
		return Record{}, errors.New("join record: id or hash is malformed")
	case r.Role != RoleNode && r.Role != RolePlane:
		return Record{}, fmt.Errorf("join record: role %q is unknown", r.Role)
	case r.Uses < 1 || r.Uses > MaxUses || r.Used < 0 || r.Used > r.Uses:
		return Record{}, fmt.Errorf("join record: %d of %d uses", r.Used, r.Uses)
	}
	return r, nil
}
