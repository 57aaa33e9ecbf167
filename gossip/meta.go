package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Role is what a member offers the cluster.
type Role uint8

const (
	RoleNode  Role = iota // runs pods
	RolePlane             // runs pods, and votes or may be asked to
)

// String is "node", "plane", or "role(N)" for one of a later version.
func (r Role) String() string {
	switch r {
	case RoleNode:
		return "node"
	case RolePlane:
		return "plane"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// Meta is what a member says about itself. It is a claim: see the package
// comment.
type Meta struct {
	Role     Role
	APIPort  uint16 // 0: none
	MeshPort uint16 // 0: none
	Version  string // of the program, at most MaxVersion bytes of printable ASCII
	Zone     string // failure domain, at most MaxZone bytes of printable ASCII
}

const (
	MaxVersion = 32
	MaxZone    = 63 // a label value
	// MaxMeta bounds an encoded Meta, whatever later versions add.
	MaxMeta = 200
)

// metaVersion changes only when old members cannot read the new form; fields
// that are merely new go at the end, where version 1 does not look.
const metaVersion = 1

// ErrMeta is wrapped by every error of Meta.Encode and ParseMeta.
var ErrMeta = errors.New("meta")

// Encode writes: version 1, role, API port, mesh port (big endian, 2 bytes
// each), then version and zone, each behind a byte with its length.
func (m Meta) Encode() ([]byte, error) {
	if err := checkText("Version", m.Version, MaxVersion); err != nil {
		return nil, err
	}
	if err := checkText("Zone", m.Zone, MaxZone); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 8+len(m.Version)+len(m.Zone))
	b = append(b, metaVersion, byte(m.Role))
	b = binary.BigEndian.AppendUint16(b, m.APIPort)
	b = binary.BigEndian.AppendUint16(b, m.MeshPort)
	b = append(append(b, byte(len(m.Version))), m.Version...)
	return append(append(b, byte(len(m.Zone))), m.Zone...), nil
}

// ParseMeta reads what Encode wrote, and ignores what a later version appended.
func ParseMeta(b []byte) (Meta, error) {
	if len(b) > MaxMeta {
		return Meta{}, fmt.Errorf("%w: %d bytes, more than %d", ErrMeta, len(b), MaxMeta)
	}
	if len(b) < 6 {
		return Meta{}, fmt.Errorf("%w: %d bytes, fewer than 6", ErrMeta, len(b))
	}
	if b[0] != metaVersion {
		return Meta{}, fmt.Errorf("%w: version %d, this member reads %d", ErrMeta, b[0], metaVersion)
	}
	m := Meta{
		Role:     Role(b[1]),
		APIPort:  binary.BigEndian.Uint16(b[2:]),
		MeshPort: binary.BigEndian.Uint16(b[4:]),
	}
	var err error
	rest := b[6:]
	if m.Version, rest, err = cutText("Version", rest, MaxVersion); err != nil {
		return Meta{}, err
	}
	if m.Zone, _, err = cutText("Zone", rest, MaxZone); err != nil {
		return Meta{}, err
	}
	return m, nil
}

func cutText(field string, b []byte, most int) (string, []byte, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, fmt.Errorf("%w: %s is cut off", ErrMeta, field)
	}
	n := 1 + int(b[0])
	s := string(b[1:n])
	return s, b[n:], checkText(field, s, most)
}

func checkText(field, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%w: %s has %d bytes, more than %d", ErrMeta, field, len(s), most)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("%w: %s %q is not printable ASCII", ErrMeta, field, s)
		}
	}
	return nil
}
