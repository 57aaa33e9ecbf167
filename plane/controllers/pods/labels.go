package pods

import (
	"maps"
	"slices"
	"strings"
	"unique"
)

// Labels is a set of labels as one shared word: pods of one template hold the
// same one. It implements labels.Labels, so selectors match it directly.
type Labels struct{ set unique.Handle[string] }

// Neither label keys nor values may hold a zero byte, so it separates them.
const sep = "\x00"

// MakeLabels interns a set of labels.
func MakeLabels(m map[string]string) Labels {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(k)
		b.WriteString(sep)
		b.WriteString(m[k])
		b.WriteString(sep)
	}
	return Labels{unique.Make(b.String())}
}

// Lookup is the value of a label and whether it is there.
func (l Labels) Lookup(key string) (string, bool) {
	rest := l.set.Value()
	for rest != "" {
		k, after, _ := strings.Cut(rest, sep)
		v, next, _ := strings.Cut(after, sep)
		if k == key {
			return v, true
		}
		rest = next
	}
	return "", false
}

// Has tells whether a label is there.
func (l Labels) Has(key string) bool { _, ok := l.Lookup(key); return ok }

// Get is the value of a label, "" when it is not there.
func (l Labels) Get(key string) string { v, _ := l.Lookup(key); return v }

// Contains tells whether every label of m is there with the same value.
func (l Labels) Contains(m map[string]string) bool {
	for k, want := range m {
		if v, ok := l.Lookup(k); !ok || v != want {
			return false
		}
	}
	return true
}
