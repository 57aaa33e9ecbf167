package kinds

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"copepod/plane/apiserver/validation"
)

// strategy is what happens to an object between admission and storage. It is
// one for all kinds; the row holds the differences.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind  *Kind
	rules validation.Rules
}

func newStrategy(typer runtime.ObjectTyper, k *Kind) *strategy {
	return &strategy{ObjectTyper: typer, NameGenerator: names.SimpleNameGenerator, kind: k, rules: rulesOf(k.GroupKind())}
}

// rulesOf gives the validation of a kind. Every kind of ours has some.
func rulesOf(gk schema.GroupKind) validation.Rules {
	rules, ok := validation.For(gk)
	if !ok {
		panic(fmt.Sprintf("kinds: %s has no validation", gk))
	}
	return rules
}

func (s *strategy) NamespaceScoped() bool { return !s.kind.Cluster }

func (s *strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	if s.kind.Status && !s.kind.StatusOnCreate {
		part(obj, "Status").SetZero()
	}
	if s.kind.Generation != nil {
		obj.(metav1.Object).SetGeneration(1)
	}
	if s.kind.Create != nil {
		s.kind.Create(obj)
	}
}

func (s *strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return s.rules.Create(obj)
}

func (s *strategy) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	return s.rules.Warnings(obj, nil)
}

func (s *strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if s.kind.Status {
		part(obj, "Status").Set(part(old, "Status"))
	}
	if s.kind.Update != nil {
		s.kind.Update(obj, old)
	}
	if s.kind.Generation != nil && s.kind.Generation(obj, old) {
		obj.(metav1.Object).SetGeneration(old.(metav1.Object).GetGeneration() + 1)
	}
}

func (s *strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return s.rules.Update(obj, old)
}

func (s *strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	return s.rules.Warnings(obj, old)
}

func (s *strategy) Canonicalize(runtime.Object)                   {}
func (s *strategy) AllowCreateOnUpdate(context.Context) bool      { return s.kind.CreateOnUpdate }
func (s *strategy) AllowUnconditionalUpdate(context.Context) bool { return !s.kind.Versioned }

// GetResetFields names what a write of the main resource ignores.
func (s *strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if !s.kind.Status {
		return nil
	}
	return s.kind.reset(fieldpath.MakePathOrDie("status"))
}

func (s *strategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	if s.kind.NoDependents {
		return rest.Unsupported
	}
	return rest.DeleteDependents
}

// gracefulStrategy is the strategy of kinds that end politely. It is a type of
// its own because the library asks by interface.
type gracefulStrategy struct{ *strategy }

func (s gracefulStrategy) CheckGracefulDelete(_ context.Context, obj runtime.Object, opts *metav1.DeleteOptions) bool {
	if opts == nil {
		return false
	}
	s.kind.Grace(obj, opts)
	return true
}

// statusStrategy is the strategy of the status subresource.
type statusStrategy struct{ *strategy }

func (s statusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	part(obj, "Spec").Set(part(old, "Spec"))
	if s.kind.UpdateStatus != nil {
		s.kind.UpdateStatus(obj, old)
	}
}

func (s statusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return s.rules.UpdateStatus(obj, old)
}

func (s statusStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

func (s statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.kind.reset(append([]fieldpath.Path{fieldpath.MakePathOrDie("spec")}, s.kind.ResetStatus...)...)
}

func (k *Kind) reset(paths ...fieldpath.Path) map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(k.Version.String()): fieldpath.NewSet(paths...),
	}
}

// specChanged is the common rule for metadata.generation.
func specChanged(obj, old runtime.Object) bool {
	return !semanticEqual(part(obj, "Spec"), part(old, "Spec"))
}

func semanticEqual(a, b reflect.Value) bool {
	return equality.Semantic.DeepEqual(a.Interface(), b.Interface())
}
