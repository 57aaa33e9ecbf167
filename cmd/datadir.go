package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// dataFormat is the version of the layout of the data directory; a binary reads
// its own and older ones.
const dataFormat = 1

// lockDataDir takes the data directory for this process. The function that it
// returns gives it back.
func lockDataDir(dir string) (unlock func(), err error) {
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("data directory %s: lock: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("data directory %s: %s uses it; stop that one first, or give another with --data-dir", dir, holder(path))
	}
	unlock = func() { _ = lock.Close() }
	if err := errors.Join(checkFormat(dir), os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// holder names the process that wrote its id into the lock file.
func holder(path string) string {
	data, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(data))
	if err != nil || pid == "" {
		return "another process"
	}
	return "process " + pid
}

// checkFormat refuses what a newer version wrote, and marks what is new.
func checkFormat(dir string) error {
	path := filepath.Join(dir, "format")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(path, []byte(strconv.Itoa(dataFormat)+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	format, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("data directory %s: its file %q is damaged: want a number, got %.20q", dir, "format", data)
	}
	if format > dataFormat {
		return fmt.Errorf("data directory %s: written by a newer version (format %d, this one knows up to %d); use that version, or give another directory with --data-dir", dir, format, dataFormat)
	}
	return nil
}
