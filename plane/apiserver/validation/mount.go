package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (f *findings) mounts(at *field.Path, c *corev1.Container, volumes volumeSources) {
	devices, devicePaths := seen[string]{}, seen[string]{}
	for _, d := range c.VolumeDevices {
		devices[d.Name], devicePaths[d.DevicePath] = true, true
	}
	paths := seen[string]{}
	for i := range c.VolumeMounts {
		m, item := &c.VolumeMounts[i], at.Index(i)
		f.notEmpty(item.Child("name"), m.Name)
		if _, ok := volumes[m.Name]; !ok {
			f.add(field.NotFound(item.Child("name"), m.Name))
		}
		f.notEmpty(item.Child("mountPath"), m.MountPath)
		if paths.again(m.MountPath) {
			f.invalid(item.Child("mountPath"), m.MountPath, "must be unique")
		}
		if devices[m.Name] {
			f.invalid(item.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if devicePaths[m.MountPath] {
			f.invalid(item.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		f.subPaths(at, item, m)
		f.propagation(at.Child("mountPropagation"), m, c)
		f.recursiveReadOnly(at.Child("recursiveReadOnly"), m)
	}
}

func (f *findings) subPaths(list, item *field.Path, m *corev1.VolumeMount) {
	if m.SubPath != "" {
		f.relativePath(list.Child("subPath"), m.SubPath)
	}
	if m.SubPathExpr != "" {
		if m.SubPath != "" {
			f.invalid(item.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
		}
		f.relativePath(list.Child("subPathExpr"), m.SubPathExpr)
	}
}

func (f *findings) propagation(at *field.Path, m *corev1.VolumeMount, c *corev1.Container) {
	if m.MountPropagation == nil {
		return
	}
	unless(f, at, *m.MountPropagation, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	privileged := c.SecurityContext != nil && isTrue(c.SecurityContext.Privileged)
	if *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
		f.forbidden(at, "Bidirectional mount propagation is available only to privileged containers")
	}
}

func (f *findings) recursiveReadOnly(at *field.Path, m *corev1.VolumeMount) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return
	}
	switch *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
		if !m.ReadOnly {
			f.forbidden(at, "may only be specified when readOnly is true")
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			f.forbidden(at, "may only be specified when mountPropagation is None or not specified")
		}
	default:
		unless(f, at, *m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	}
}

// devices judges claims that a container uses as a raw disk.
func (f *findings) devices(at *field.Path, c *corev1.Container, volumes volumeSources) {
	mounts, mountPaths := seen[string]{}, seen[string]{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name], mountPaths[m.MountPath] = true, true
	}
	names, paths := seen[string]{}, seen[string]{}
	for i, d := range c.VolumeDevices {
		name, path := at.Index(i).Child("name"), at.Index(i).Child("devicePath")
		f.notEmpty(name, d.Name)
		if d.Name != "" && names.again(d.Name) {
			f.invalid(name, d.Name, "must be unique")
		}
		source, ok := volumes[d.Name]
		if !ok {
			f.add(field.NotFound(name, d.Name))
		} else if source.PersistentVolumeClaim == nil && source.Ephemeral == nil {
			f.invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
		}
		f.notEmpty(path, d.DevicePath)
		if paths[d.DevicePath] {
			f.invalid(path, d.DevicePath, "must be unique")
		}
		if hasBacksteps(d.DevicePath) {
			f.invalid(path, d.DevicePath, "can not contain backsteps ('..')")
		} else {
			paths[d.DevicePath] = true
		}
		if mounts[d.Name] {
			f.invalid(name, d.Name, "must not already exist in volumeMounts")
		}
		if mountPaths[d.DevicePath] {
			f.invalid(path, d.DevicePath, "must not already exist as a path in volumeMounts")
		}
	}
}
