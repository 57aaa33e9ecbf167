package wasmrt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
)

// diskCache is one module made ready on disk: the rewritten module, the machine
// code that wazero writes beside it, and our seal over both. wazero trusts what
// it reads there, down to the sizes it allocates, so nothing that the seal does
// not cover reaches it.
type diskCache struct{ dir string }

const (
	sealName   = "seal"
	moduleName = "module.wasm"
)

// load returns the rewritten module of a sealed entry, or nil if there is none.
// An entry without a seal is one whose writer was stopped; that one, and one
// whose seal does not match, is removed. The error says what was wrong with a
// sealed one.
func (d diskCache) load() ([]byte, error) {
	seal, err := os.ReadFile(filepath.Join(d.dir, sealName))
	if errors.Is(err, fs.ErrNotExist) {
		d.remove()
		return nil, nil
	}
	if err == nil {
		var sum string
		if sum, err = d.sum(); err == nil && sum != string(seal) {
			err = errors.New("its content does not match its seal")
		}
	}
	var code []byte
	if err == nil {
		code, err = os.ReadFile(filepath.Join(d.dir, moduleName))
	}
	if err != nil {
		d.remove()
		return nil, err
	}
	now := time.Now()
	os.Chtimes(filepath.Join(d.dir, sealName), now, now) // for prune; it may fail
	return code, nil
}

// cacheKeep is how long an entry stays that nobody loads: those of versions
// gone by are never loaded again.
const cacheKeep = 30 * 24 * time.Hour

// prune removes the entries below dir that nobody loaded since the time, and
// what compilers have left half done.
func prune(dir string, since time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if abandoned(e) {
			diskCache{dir: filepath.Join(dir, e.Name())}.remove()
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name(), sealName))
		if err == nil && info.ModTime().Before(since) {
			diskCache{dir: filepath.Join(dir, e.Name())}.remove()
		}
	}
	return nil
}

func (d diskCache) open() (wazero.CompilationCache, error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	return wazero.NewCompilationCacheWithDir(d.dir)
}

// seal adds the rewritten module and marks the entry complete.
func (d diskCache) seal(code []byte) error {
	if err := os.WriteFile(filepath.Join(d.dir, moduleName), code, 0o600); err != nil {
		return err
	}
	sum, err := d.sum()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(d.dir, sealName+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(sum)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.dir, sealName))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (d diskCache) remove() { os.RemoveAll(d.dir) }

// sum covers the names and the bytes of all files but the seal.
func (d diskCache) sum() (string, error) {
	all := sha256.New()
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), sealName) {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		one := sha256.New()
		if _, err := io.Copy(one, f); err != nil {
			return err
		}
		fmt.Fprintf(all, "%s %x\n", e.Name(), one.Sum(nil))
		return nil
	})
	return hex.EncodeToString(all.Sum(nil)), err
}
