package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"copepod/plane/auth/keyfile"
)

// FileName is the key file inside the directory given to LoadOrCreate, mode 0600:
// the line "copepod seal keys 1", then one line "ID BASE64" a key, the current
// one first.
const FileName = "seal.keys"

const (
	fileHeader = "copepod seal keys 1"
	secretSize = 32
	maxIDLen   = 32
)

// ErrVersion says that a newer version wrote the key file.
var ErrVersion = errors.New("key file has another version: start the version that wrote it")

type key struct {
	id     string
	secret [secretSize]byte
}

// Keys is the content of a key file. It never changes and is safe for concurrent
// use.
type Keys struct {
	ring []key // current first, never empty
}

// LoadOrCreate reads the keys in dir, or makes the first. It returns
// *keyfile.PermissionError if others could have read them.
//
// Losing the file loses every sealed value, so backups must hold it, apart from
// the data.
func LoadOrCreate(dir string) (*Keys, error) {
	path := filepath.Join(dir, FileName)
	data, err := keyfile.LoadOrCreate(path, func() ([]byte, error) {
		return (&Keys{}).withFresh().Encode(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("seal: keys: %w", err)
	}
	keys, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("seal: keys: %s: %w", path, err)
	}
	return keys, nil
}

// Rotate adds a fresh current key to the file in dir; the older ones still open
// what they sealed. Running processes pick it up with LoadOrCreate.
func Rotate(dir string) (*Keys, error) {
	keys, err := LoadOrCreate(dir)
	if err != nil {
		return nil, err
	}
	keys = keys.withFresh()
	if err := Store(dir, keys); err != nil {
		return nil, err
	}
	return keys, nil
}

// Store replaces the keys in dir, as a voter does that received them from the
// leader.
func Store(dir string, keys *Keys) error {
	if err := keyfile.Write(filepath.Join(dir, FileName), keys.Encode()); err != nil {
		return fmt.Errorf("seal: keys: %w", err)
	}
	return nil
}

// Retire returns the keys without those that the predicate does not want to keep;
// the current key always stays. Values of a retired key cannot be read any more.
func (k *Keys) Retire(keep func(id string) bool) *Keys {
	out := &Keys{ring: []key{k.ring[0]}}
	for _, old := range k.ring[1:] {
		if keep(old.id) {
			out.ring = append(out.ring, old)
		}
	}
	return out
}

// IDs lists the keys, the current one first.
func (k *Keys) IDs() []string {
	ids := make([]string, len(k.ring))
	for i := range k.ring {
		ids[i] = k.ring[i].id
	}
	return ids
}

// Encode returns the content of a key file: secret.
func (k *Keys) Encode() []byte {
	var b strings.Builder
	b.WriteString(fileHeader + "\n")
	for i := range k.ring {
		fmt.Fprintf(&b, "%s %s\n", k.ring[i].id, base64.StdEncoding.EncodeToString(k.ring[i].secret[:]))
	}
	return []byte(b.String())
}

// Parse is the inverse of Encode.
func Parse(data []byte) (*Keys, error) {
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if lines[0] != fileHeader {
		if strings.HasPrefix(lines[0], strings.TrimSuffix(fileHeader, "1")) {
			return nil, fmt.Errorf("%q: %w", lines[0], ErrVersion)
		}
		return nil, fmt.Errorf("first line is not %q: not a key file, or damaged", fileHeader)
	}
	keys := &Keys{}
	for i, line := range lines[1:] {
		k, err := parseKey(line)
		if err != nil { // the line itself is secret, so only its number is told
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		if keys.has(k.id) {
			return nil, fmt.Errorf("line %d: key %q is there twice", i+2, k.id)
		}
		keys.ring = append(keys.ring, k)
	}
	if len(keys.ring) == 0 {
		return nil, errors.New("no keys: the file was cut short, restore it from a backup")
	}
	return keys, nil
}

func parseKey(line string) (key, error) {
	id, encoded, ok := strings.Cut(line, " ")
	if !ok || !validID(id) {
		return key{}, errors.New("not of the form ID BASE64")
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(secret) != secretSize {
		return key{}, fmt.Errorf("key %q is not %d bytes of base64", id, secretSize)
	}
	return key{id: id, secret: [secretSize]byte(secret)}, nil
}

// validID keeps colons, which end an id in a sealed value, and anything that
// would not print out of ids.
func validID(id string) bool {
	if id == "" || len(id) > maxIDLen {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (k *Keys) has(id string) bool {
	for i := range k.ring {
		if k.ring[i].id == id {
			return true
		}
	}
	return false
}

// withFresh returns the keys with a new current one. Ids are random, not counted,
// so that two machines that rotate at once never give two keys one id.
func (k *Keys) withFresh() *Keys {
	fresh := key{id: "k" + strings.ToLower(rand.Text()[:10])}
	rand.Read(fresh.secret[:]) // never fails: crypto/rand ends the process instead
	return &Keys{ring: append([]key{fresh}, k.ring...)}
}
