package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxWarnings bounds what a client is told; HTTP clients cut it at 4 KiB anyhow.
const maxWarnings = 25

// warnings collects sentences about an object that is valid and yet suspicious.
type warnings struct{ list []string }

func (w *warnings) full() bool { return len(w.list) >= maxWarnings }

func (w *warnings) add(sentences ...string) {
	for _, s := range sentences {
		if w.full() {
			return
		}
		w.list = append(w.list, s)
	}
}

// at warns about a field.
func (w *warnings) at(path *field.Path, format string, args ...any) {
	if w.full() {
		return
	}
	w.add(path.String() + ": " + fmt.Sprintf(format, args...))
}
