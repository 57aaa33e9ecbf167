package validation

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The roots of most field paths.
var (
	metaPath   = field.NewPath("metadata")
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// strict is how selectors are judged: their label values must be valid.
var strict = metavalidation.LabelSelectorValidationOptions{}

// scope says whether objects of a kind live in a namespace.
type scope bool

const (
	namespaced scope = true
	cluster    scope = false
)

// meta judges the metadata of a new object, once its name was generated.
func (f *findings) meta(m *metav1.ObjectMeta, in scope, name apivalidation.ValidateNameFunc) {
	f.add(apivalidation.ValidateObjectMeta(m, bool(in), name, metaPath)...)
	f.finalizers(m.Finalizers)
}

func (f *findings) metaUpdate(m, old *metav1.ObjectMeta) {
	f.add(apivalidation.ValidateObjectMetaUpdate(m, old, metaPath)...)
	f.finalizers(m.Finalizers)
}

func (f *findings) finalizers(list []string) {
	for i, name := range list {
		f.finalizer(metaPath.Child("finalizers").Index(i), name)
	}
}

// finalizer knows the names without a domain that Kubernetes has always had.
func (f *findings) finalizer(at *field.Path, name string) {
	known := []string{string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}
	if !strings.Contains(name, "/") && !slices.Contains(known, name) {
		f.invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified")
	}
}

func (f *findings) labels(at *field.Path, labels map[string]string) {
	f.add(metavalidation.ValidateLabels(labels, at)...)
}

func (f *findings) labelKey(at *field.Path, key string) {
	f.add(metavalidation.ValidateLabelName(key, at)...)
}

func (f *findings) selector(at *field.Path, s *metav1.LabelSelector) {
	f.add(metavalidation.ValidateLabelSelector(s, strict, at)...)
}
