package desired

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// box seals and opens files.
type box struct{ aead cipher.AEAD }

const keySize = 32

// openBox reads the key, or makes it. Who can read the key can read everything,
// so it must be its owner's alone.
func openBox(path string) (box, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		if _, err := rand.Read(key); err != nil {
			return box{}, err
		}
		err = replaceFile(path, key)
	}
	if err != nil {
		return box{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return box{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return box{}, fmt.Errorf("%s: mode %#o lets others than its owner in: run `chmod 0600 %s`", path, mode, path)
	}
	if len(key) != keySize {
		return box{}, fmt.Errorf("%s: got %d bytes, want %d: remove the directory %s, it is written anew", path, len(key), keySize, filepath.Dir(path))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return box{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return box{aead}, err
}

// seal binds the content to its file: one cannot stand in for another.
func (b box) seal(file string, plain []byte) []byte {
	return b.aead.Seal(nil, nil, plain, []byte(filepath.ToSlash(file)))
}

var errSeal = errors.New("torn, or sealed with another key")

func (b box) open(file string, sealed []byte) ([]byte, error) {
	plain, err := b.aead.Open(nil, nil, sealed, []byte(filepath.ToSlash(file)))
	if err != nil {
		return nil, errSeal
	}
	return plain, nil
}

// maxFile bounds what is read: an object has at most 1.5 MiB in the API.
const maxFile = 8 << 20

func (s *Store) read(file string, into any) error {
	f, err := os.Open(filepath.Join(s.cfg.Dir, file))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sealed, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return err
	}
	plain, err := s.box.open(file, sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}

// write makes a file hold value, or removes it.
func (s *Store) write(file string, value any) error {
	path := filepath.Join(s.cfg.Dir, file)
	if value == nil {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	plain, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return replaceFile(path, s.box.seal(file, plain))
}

// replaceFile leaves either the old file or the new one. The temporary lies
// beside the directories that are listed.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if base := filepath.Base(dir); base == podsDir || base == objectsDir {
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, "."+strings.TrimPrefix(filepath.Base(path), ".")+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
