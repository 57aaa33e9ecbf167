package validation

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubectl/pkg/util/fieldpath"
)

// What a container may learn of its pod, in a variable and in a file.
var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	// podFields are known, though not all of them may be asked for.
	podFields = append([]string{"metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"}, envFields...)
)

// What a container may learn of its resources, and in which units.
var (
	resourceFields = []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
	cpuUnits  = []string{"1m", "1"}
	byteUnits = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

func (f *findings) env(at *field.Path, vars []corev1.EnvVar) {
	for i := range vars {
		v, at := &vars[i], at.Index(i)
		if v.Name == "" {
			f.required(at.Child("name"), "")
		} else {
			f.each(at.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))
		}
		if v.ValueFrom != nil {
			f.envSource(at.Child("valueFrom"), v)
		}
	}
}

func (f *findings) envSource(at *field.Path, v *corev1.EnvVar) {
	from, n := v.ValueFrom, 0
	if from.FieldRef != nil {
		n++
		f.fieldRef(at.Child("fieldRef"), from.FieldRef, envFields)
	}
	if from.ResourceFieldRef != nil {
		n++
		f.resourceRef(at.Child("resourceFieldRef"), from.ResourceFieldRef, false)
	}
	if from.ConfigMapKeyRef != nil {
		n++
		f.keyRef(at.Child("configMapKeyRef"), from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key)
	}
	if from.SecretKeyRef != nil {
		n++
		f.keyRef(at.Child("secretKeyRef"), from.SecretKeyRef.Name, from.SecretKeyRef.Key)
	}
	if from.FileKeyRef != nil {
		n++
		f.fileKeyRef(at.Child("fileKeyRef"), from.FileKeyRef)
	}
	switch {
	case n == 0:
		f.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case v.Value != "":
		f.invalid(at, "", "may not be specified when `value` is not empty")
	case n > 1:
		f.invalid(at, "", "may not have more than one field specified at a time")
	}
}

// fieldRef judges a reference to a field of the pod, perhaps to one label or
// annotation: metadata.labels['app'].
func (f *findings) fieldRef(at *field.Path, ref *corev1.ObjectFieldSelector, allowed []string) {
	switch {
	case ref.APIVersion == "":
		f.required(at.Child("apiVersion"), "")
		return
	case ref.FieldPath == "":
		f.required(at.Child("fieldPath"), "")
		return
	case ref.APIVersion != "v1":
		f.invalid(at.Child("fieldPath"), ref.FieldPath, fmt.Sprintf("error converting fieldPath: unsupported pod version: %s", ref.APIVersion))
		return
	}
	path, key, hasKey := fieldpath.SplitMaybeSubscriptedPath(ref.FieldPath)
	switch {
	case hasKey && path == "metadata.annotations":
		f.qualifiedName(at, strings.ToLower(key))
	case hasKey && path == "metadata.labels":
		f.qualifiedName(at, key)
	case hasKey:
		f.invalid(at.Child("fieldPath"), ref.FieldPath, fmt.Sprintf("error converting fieldPath: field label does not support subscript: %s", ref.FieldPath))
	case !slices.Contains(podFields, path):
		f.invalid(at.Child("fieldPath"), ref.FieldPath, fmt.Sprintf("error converting fieldPath: field label not supported: %s", ref.FieldPath))
	default:
		unless(f, at.Child("fieldPath"), path, allowed...)
	}
}

// resourceRef judges a reference to a container's request or limit. In a volume
// it must say of which container.
func (f *findings) resourceRef(at *field.Path, ref *corev1.ResourceFieldSelector, inVolume bool) {
	hugePages := strings.HasPrefix(ref.Resource, "requests.hugepages-") || strings.HasPrefix(ref.Resource, "limits.hugepages-")
	switch {
	case inVolume && ref.ContainerName == "":
		f.required(at.Child("containerName"), "")
	case ref.Resource == "":
		f.required(at.Child("resource"), "")
	case !hugePages:
		unless(f, at.Child("resource"), ref.Resource, resourceFields...)
	}
	switch _, kind, _ := strings.Cut(ref.Resource, "."); {
	case hugePages:
		f.divisor(at, ref, byteUnits, "hugepages")
	case !slices.Contains(resourceFields, ref.Resource):
	case kind == "cpu":
		f.divisor(at, ref, cpuUnits, "cpu")
	case kind == "memory":
		f.divisor(at, ref, byteUnits, "memory")
	default:
		f.divisor(at, ref, byteUnits, "local ephemeral storage")
	}
}

func (f *findings) divisor(at *field.Path, ref *corev1.ResourceFieldSelector, units []string, what string) {
	if ref.Divisor.Cmp(resource.Quantity{}) == 0 || slices.Contains(units, ref.Divisor.String()) {
		return
	}
	list := strings.Join(units, ", ")
	if len(units) == 2 {
		list = strings.Join(units, " and ")
	}
	f.invalid(at.Child("divisor"), ref.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", list, what))
}

func (f *findings) keyRef(at *field.Path, name, key string) {
	f.each(at.Child("name"), name, apivalidation.NameIsDNSSubdomain(name, false))
	if key == "" {
		f.required(at.Child("key"), "")
		return
	}
	f.each(at.Child("key"), key, validation.IsConfigMapKey(key))
}

func (f *findings) fileKeyRef(at *field.Path, ref *corev1.FileKeySelector) {
	if ref.VolumeName == "" {
		f.required(at.Child("volumeName"), "")
	} else {
		f.label(at.Child("volumeName"), ref.VolumeName)
	}
	if ref.Path == "" {
		f.required(at.Child("path"), "")
	} else {
		f.localPath(at.Child("path"), ref.Path)
	}
	if ref.Key == "" {
		f.required(at.Child("key"), "")
	} else {
		f.each(at.Child("key"), ref.Key, validation.IsRelaxedEnvVarName(ref.Key))
	}
}

func (f *findings) envFrom(at *field.Path, sources []corev1.EnvFromSource) {
	for i, s := range sources {
		item, n := at.Index(i), 0
		if s.Prefix != "" {
			f.each(item.Child("prefix"), s.Prefix, validation.IsRelaxedEnvVarName(s.Prefix))
		}
		if s.ConfigMapRef != nil {
			n++
			f.envFromName(item.Child("configMapRef", "name"), s.ConfigMapRef.Name)
		}
		if s.SecretRef != nil {
			n++
			f.envFromName(item.Child("secretRef", "name"), s.SecretRef.Name)
		}
		switch {
		case n == 0:
			f.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
		case n > 1:
			f.invalid(at, "", "may not have more than one field specified at a time")
		}
	}
}

func (f *findings) envFromName(at *field.Path, name string) {
	if name == "" {
		f.required(at, "")
		return
	}
	f.each(at, name, apivalidation.NameIsDNSSubdomain(name, true))
}
