//go:build !unix

package cmd

import (
	"fmt"
	"os"
)

// checkDataDir cannot see owners and modes here; the directory is under the
// user's profile, which the system keeps from others.
func checkDataDir(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s is a file; give another with --data-dir", dir)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
