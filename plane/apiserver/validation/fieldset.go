package validation

import (
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// onlyFields forbids every field of a struct that is set and not named. Listing
// what is allowed means that a field of a later API version is refused until
// somebody has thought about it.
func (f *findings) onlyFields(at *field.Path, value any, why string, allowed ...string) {
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if slices.Contains(allowed, name) || v.Field(i).IsZero() {
			continue
		}
		first, size := utf8.DecodeRuneInString(name)
		f.forbidden(at.Child(string(unicode.ToLower(first))+name[size:]), why)
	}
}
