//go:build !linux

package wasi

import (
	"io/fs"
	"os"
)

// Inode numbers, link counts and the times of open files are shown and set on
// Linux alone.

func (*filestat) details(fs.FileInfo) {}

func setTimes(*os.File, times) error { return errNotSupported }

func setLinkTimes(place, times) error { return errNotSupported }
