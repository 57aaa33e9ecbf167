package validation

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds on an answer. An object is at most a few megabytes, which is room for
// a hundred thousand mistakes; the sender learns of the first ones.
const (
	maxFindings = 100
	maxShown    = 1024 // bytes of a wrong string that an error repeats
)

// findings collects what is wrong with an object, in the order in which it was
// found.
type findings struct{ list field.ErrorList }

func (f *findings) add(errs ...*field.Error) {
	for _, err := range errs {
		switch {
		case len(f.list) < maxFindings:
			if s, ok := err.BadValue.(string); ok && len(s) > maxShown {
				err.BadValue = s[:maxShown] + "…"
			}
			f.list = append(f.list, err)
		case len(f.list) == maxFindings:
			f.list = append(f.list, &field.Error{Type: field.ErrorTypeForbidden, Field: err.Field, Detail: "too many errors, the others are left out"})
			return
		default:
			return
		}
	}
}

func (f *findings) required(at *field.Path, why string) { f.add(field.Required(at, why)) }

func (f *findings) forbidden(at *field.Path, why string) { f.add(field.Forbidden(at, why)) }

func (f *findings) invalid(at *field.Path, value any, why string) {
	f.add(field.Invalid(at, value, why))
}

// each finds the value invalid once for each reason.
func (f *findings) each(at *field.Path, value any, reasons []string) {
	for _, why := range reasons {
		f.invalid(at, value, why)
	}
}

func (f *findings) duplicate(at *field.Path, value any) { f.add(field.Duplicate(at, value)) }

func (f *findings) nonNegative(at *field.Path, n int64) {
	if n < 0 {
		f.invalid(at, n, apivalidation.IsNegativeErrorMsg)
	}
}

// notEmpty requires a string.
func (f *findings) notEmpty(at *field.Path, value string) {
	if value == "" {
		f.required(at, "")
	}
}

func (f *findings) immutable(at *field.Path, value, old any) {
	f.add(apivalidation.ValidateImmutableField(value, old, at)...)
}

func (f *findings) label(at *field.Path, value string) {
	f.each(at, value, validation.IsDNS1123Label(value))
}

func (f *findings) subdomain(at *field.Path, value string) {
	f.each(at, value, validation.IsDNS1123Subdomain(value))
}

func (f *findings) qualifiedName(at *field.Path, value string) {
	f.each(at, value, validation.IsQualifiedName(value))
}

func (f *findings) portNumber(at *field.Path, port int32) {
	f.each(at, port, validation.IsValidPortNum(int(port)))
}

func (f *findings) fileMode(at *field.Path, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		f.invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")
	}
}

func (f *findings) ip(at *field.Path, value string) {
	f.add(validation.IsValidIPForLegacyField(at, value, true, nil)...)
}

func (f *findings) cidr(at *field.Path, value string) {
	f.add(validation.IsValidCIDRForLegacyField(at, value, true, nil)...)
}

func (f *findings) nonNegativeQuantity(at *field.Path, q resource.Quantity) {
	if q.Sign() < 0 {
		f.invalid(at, q.String(), apivalidation.IsNegativeErrorMsg)
	}
}

// unless finds the value unsupported, unless it is one of those allowed.
func unless[T ~string](f *findings, at *field.Path, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		f.add(field.NotSupported(at, string(value), allowed))
	}
}

// oneOf is unless for a field that must be set.
func oneOf[T ~string](f *findings, at *field.Path, value T, allowed ...T) {
	if value == "" {
		f.required(at, "")
		return
	}
	unless(f, at, value, allowed...)
}

// seen finds duplicates.
type seen[T comparable] map[T]bool

// again remembers the value and says whether it was there before.
func (s seen[T]) again(value T) bool {
	was := s[value]
	s[value] = true
	return was
}

// onlyOne counts the members of a union and forbids all but the first.
type onlyOne struct {
	what string // "volume type", "handler type"
	n    int
}

// first reports whether this member is the first, and forbids it if not.
func (o *onlyOne) first(f *findings, at *field.Path) bool {
	o.n++
	if o.n > 1 {
		f.forbidden(at, fmt.Sprintf("may not specify more than 1 %s", o.what))
	}
	return o.n == 1
}
