package validation

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// claimNames are the resource claims that a pod has.
type claimNames struct {
	known seen[string]
	why   string // what to say of a name that is not among them
}

func namesOfClaims(claims []corev1.PodResourceClaim) *claimNames {
	const why = "must be one of the names in pod.spec.resourceClaims"
	if len(claims) == 0 {
		return &claimNames{why: why + " which is empty"}
	}
	c := &claimNames{known: seen[string]{}, why: why}
	var names []string
	for _, claim := range claims {
		if claim.Name != "" && !c.known.again(claim.Name) {
			names = append(names, claim.Name)
		}
	}
	slices.Sort(names)
	list := strings.Join(names, ", ")
	c.why += ": " + list[:min(len(list), maxShown)]
	return c
}

// podClaims judges spec.resourceClaims.
func (f *findings) podClaims(at *field.Path, claims []corev1.PodResourceClaim) {
	names := seen[string]{}
	for i, c := range claims {
		at := at.Index(i)
		switch {
		case c.Name == "":
			f.required(at.Child("name"), "")
		case names.again(c.Name):
			f.duplicate(at.Child("name"), c.Name)
		default:
			f.label(at.Child("name"), c.Name)
		}
		if c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil {
			f.invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
		}
		if c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil {
			f.invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
		}
		f.optionalName(at.Child("resourceClaimName"), c.ResourceClaimName)
		f.optionalName(at.Child("resourceClaimTemplateName"), c.ResourceClaimTemplateName)
	}
}

func (f *findings) optionalName(at *field.Path, name *string) {
	if name != nil {
		f.each(at, *name, apivalidation.NameIsDNSSubdomain(*name, false))
	}
}

// usedClaims judges the claims that a container uses: whole ones or single
// requests of them, none twice.
func (f *findings) usedClaims(at *field.Path, claims []corev1.ResourceClaim, of *claimNames) {
	whole, part, used := seen[string]{}, seen[[2]string]{}, seen[string]{}
	for i, c := range claims {
		at := at.Index(i)
		if c.Name == "" {
			f.required(at, "")
			continue
		}
		switch {
		case whole[c.Name], c.Request == "" && used[c.Name]:
			f.duplicate(at, c.Name)
		case c.Request == "":
			whole[c.Name] = true
		default:
			f.label(at.Child("request"), c.Request)
			if part.again([2]string{c.Name, c.Request}) {
				f.duplicate(at, c.Name+"/"+c.Request)
			}
		}
		used[c.Name] = true
		if of == nil || !of.known[c.Name] {
			err := field.NotFound(at, c.Name)
			if of != nil {
				err.Detail = of.why
			}
			f.add(err)
		}
	}
}

// volumeClaim judges the claim that an ephemeral volume makes for its pod.
func (f *findings) volumeClaim(at *field.Path, t *corev1.PersistentVolumeClaimTemplate) {
	f.add(apivalidation.ValidateAnnotations(t.Annotations, at.Child("metadata", "annotations"))...)
	f.labels(at.Child("metadata", "labels"), t.Labels)
	f.onlyFields(at.Child("metadata"), t.ObjectMeta, "cannot be set", "Labels", "Annotations")

	at = at.Child("spec")
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	if len(t.Spec.AccessModes) == 0 {
		f.required(at.Child("accessModes"), "at least 1 access mode is required")
	}
	if t.Spec.Selector != nil {
		f.selector(at.Child("selector"), t.Spec.Selector)
	}
	for _, mode := range t.Spec.AccessModes {
		unless(f, at.Child("accessModes"), mode, modes...)
	}
	if len(t.Spec.AccessModes) > 1 && slices.Contains(t.Spec.AccessModes, corev1.ReadWriteOncePod) {
		f.forbidden(at.Child("accessModes"), "may not use ReadWriteOncePod with other access modes")
	}
	storage := at.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := t.Spec.Resources.Requests[corev1.ResourceStorage]; !ok {
		f.required(storage, "")
	} else if q.Sign() <= 0 {
		f.invalid(storage, q.String(), "must be greater than zero")
	}
	if c := t.Spec.StorageClassName; c != nil && *c != "" {
		f.optionalName(at.Child("storageClassName"), c)
	}
	if t.Spec.VolumeMode != nil {
		unless(f, at.Child("volumeMode"), *t.Spec.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	if s := t.Spec.DataSource; s != nil {
		f.dataSource(at.Child("dataSource"), s)
	}
}

func (f *findings) dataSource(at *field.Path, s *corev1.TypedLocalObjectReference) {
	f.notEmpty(at.Child("name"), s.Name)
	f.notEmpty(at.Child("kind"), s.Kind)
	if s.APIGroup != nil && *s.APIGroup != "" {
		f.subdomain(at.Child("apiGroup"), *s.APIGroup)
	} else if s.Kind != "PersistentVolumeClaim" {
		f.invalid(at, s.Kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
	}
}

// ephemeralClaim judges the name that the claim of an ephemeral volume gets.
func (f *findings) ephemeralClaim(at *field.Path, pod, volume string) {
	name := pod + "-" + volume
	for _, why := range apivalidation.NameIsDNSSubdomain(name, false) {
		f.invalid(at.Child("name"), volume, fmt.Sprintf("PVC name %q: %v", name, why))
	}
}
