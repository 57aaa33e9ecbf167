//go:build unix

package cmd

import (
	"fmt"
	"os"
	"syscall"
)

// checkDataDir refuses a directory that belongs to someone else or that others
// may read: keys live there.
func checkDataDir(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("data directory %s: it is a file; give another with --data-dir", dir)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("data directory %s: it belongs to user %d and this is user %d; run as that user, or give another with --data-dir", dir, st.Uid, os.Geteuid())
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("data directory %s: others may read it (mode %04o), and keys live there; mend it with: chmod 700 %s", dir, fi.Mode().Perm(), dir)
	}
	return nil
}
