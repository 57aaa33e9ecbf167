package validation

import (
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// relativePath wants a path that goes down from where it starts.
func (f *findings) relativePath(at *field.Path, p string) {
	if path.IsAbs(p) {
		f.invalid(at, p, "must be a relative path")
	}
	f.noBacksteps(at, p)
}

// localPath is relativePath for a file that a volume holds: a leading ".." is
// kept for the volume's own bookkeeping.
func (f *findings) localPath(at *field.Path, p string) {
	f.relativePath(at, p)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		f.invalid(at, p, "must not start with '..'")
	}
}

func (f *findings) noBacksteps(at *field.Path, p string) {
	if hasBacksteps(p) {
		f.invalid(at, p, "must not contain '..'")
	}
}

func hasBacksteps(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
