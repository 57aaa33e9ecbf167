package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumeSources are the volumes that containers may mount: those that are valid.
type volumeSources map[string]*corev1.VolumeSource

// volumes judges spec.volumes. pod is the name of the pod, or "" in a template.
func (f *findings) volumes(at *field.Path, list []corev1.Volume, pod string) volumeSources {
	claims := seen[string]{}
	for _, v := range list {
		if v.Ephemeral != nil && pod != "" {
			claims[pod+"-"+v.Name] = true
		}
	}
	valid := volumeSources{}
	for i := range list {
		v, at := &list[i], at.Index(i)
		var own findings
		own.volume(at, v, pod)
		if _, ok := valid[v.Name]; ok {
			own.duplicate(at.Child("name"), v.Name)
		}
		if len(own.list) == 0 {
			valid[v.Name] = &v.VolumeSource
		}
		f.add(own.list...)
		if c := v.PersistentVolumeClaim; c != nil && claims[c.ClaimName] {
			f.invalid(at.Child("persistentVolumeClaim", "claimName"), c.ClaimName, "must not reference a PVC that gets created for an ephemeral volume")
		}
	}
	return valid
}

func (f *findings) volume(at *field.Path, v *corev1.Volume, pod string) {
	types := onlyOne{what: "volume type"}
	f.localVolume(&types, at, v)
	f.diskVolume(&types, at, v)
	f.clusterVolume(&types, at, v)
	if e := v.Ephemeral; e != nil && types.first(f, at.Child("ephemeral")) {
		if e.VolumeClaimTemplate == nil {
			f.required(at.Child("ephemeral", "volumeClaimTemplate"), "")
		} else {
			f.volumeClaim(at.Child("ephemeral", "volumeClaimTemplate"), e.VolumeClaimTemplate)
		}
		if pod != "" && v.Name != "" {
			f.ephemeralClaim(at, pod, v.Name)
		}
	}
	if types.n == 0 {
		f.required(at, "must specify a volume type")
	}
	if v.Name == "" {
		f.required(at.Child("name"), "")
	} else {
		f.label(at.Child("name"), v.Name)
	}
}

// localVolume judges the volumes that a node makes from what it has, and from
// objects of the API.
func (f *findings) localVolume(types *onlyOne, at *field.Path, v *corev1.Volume) {
	if e := v.EmptyDir; e != nil && types.first(f, at.Child("emptyDir")) {
		if e.SizeLimit != nil && e.SizeLimit.Sign() < 0 {
			f.forbidden(at.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")
		}
		f.fileMode(at.Child("emptyDir", "mode"), e.Mode)
	}
	if h := v.HostPath; h != nil && types.first(f, at.Child("hostPath")) {
		f.hostPath(at.Child("hostPath"), h)
	}
	if g := v.GitRepo; g != nil && types.first(f, at.Child("gitRepo")) {
		f.notEmpty(at.Child("gitRepo", "repository"), g.Repository)
		f.relativePath(at.Child("gitRepo", "directory"), g.Directory)
	}
	if s := v.Secret; s != nil && types.first(f, at.Child("secret")) {
		at := at.Child("secret")
		f.notEmpty(at.Child("secretName"), s.SecretName)
		f.fileMode(at.Child("defaultMode"), s.DefaultMode)
		f.keysToPaths(at.Child("items"), s.Items)
	}
	if c := v.PersistentVolumeClaim; c != nil && types.first(f, at.Child("persistentVolumeClaim")) {
		f.notEmpty(at.Child("persistentVolumeClaim", "claimName"), c.ClaimName)
	}
	if d := v.DownwardAPI; d != nil && types.first(f, at.Child("downwardAPI")) {
		at := at.Child("downwardAPI")
		f.fileMode(at.Child("defaultMode"), d.DefaultMode)
		for i := range d.Items {
			f.downwardFile(at, &d.Items[i])
		}
	}
	if c := v.ConfigMap; c != nil && types.first(f, at.Child("configMap")) {
		at := at.Child("configMap")
		f.notEmpty(at.Child("name"), c.Name)
		f.fileMode(at.Child("defaultMode"), c.DefaultMode)
		f.keysToPaths(at.Child("items"), c.Items)
	}
	if p := v.Projected; p != nil && types.first(f, at.Child("projected")) {
		f.projected(at.Child("projected"), p)
	}
	if i := v.Image; i != nil && types.first(f, at.Child("image")) {
		oneOf(f, at.Child("image", "pullPolicy"), i.PullPolicy, pullPolicies...)
	}
}

func (f *findings) hostPath(at *field.Path, h *corev1.HostPathVolumeSource) {
	if h.Path == "" {
		f.required(at.Child("path"), "")
		return
	}
	f.noBacksteps(at.Child("path"), h.Path)
	if h.Type != nil {
		unless(f, at.Child("type"), *h.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
			corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)
	}
}

func (f *findings) keysToPaths(at *field.Path, items []corev1.KeyToPath) {
	for i := range items {
		f.keyToPath(at.Index(i), &items[i])
	}
}

func (f *findings) keyToPath(at *field.Path, k *corev1.KeyToPath) {
	f.notEmpty(at.Child("key"), k.Key)
	f.notEmpty(at.Child("path"), k.Path)
	f.localPath(at.Child("path"), k.Path)
	f.fileMode(at.Child("mode"), k.Mode)
}

func (f *findings) downwardFile(at *field.Path, d *corev1.DownwardAPIVolumeFile) {
	f.notEmpty(at.Child("path"), d.Path)
	f.localPath(at.Child("path"), d.Path)
	switch {
	case d.FieldRef != nil:
		f.fieldRef(at.Child("fieldRef"), d.FieldRef, volumeFields)
		if d.ResourceFieldRef != nil {
			f.invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case d.ResourceFieldRef != nil:
		f.resourceRef(at.Child("resourceFieldRef"), d.ResourceFieldRef, true)
	default:
		f.required(at, "one of fieldRef and resourceFieldRef is required")
	}
	f.fileMode(at.Child("mode"), d.Mode)
}
