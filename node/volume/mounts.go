package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"copepod/node/runtime"
)

// Mounts are what a container's volumeMounts ask for. expand replaces $(VAR) in
// a subPathExpr. The caller closes done once the container runs, or will not.
func (m Mounted) Mounts(c *v1.Container, expand func(string) (string, error)) (mounts []runtime.Mount, done io.Closer, err error) {
	var held closers
	defer func() {
		if err != nil {
			_ = held.Close()
		}
	}()
	for i := range c.VolumeMounts {
		vm := &c.VolumeMounts[i]
		v, ok := m.volumes[vm.Name]
		if !ok {
			return nil, nil, fmt.Errorf("volumeMount %q of container %q: the pod has no such volume", vm.Name, c.Name)
		}
		sub := vm.SubPath
		if vm.SubPathExpr != "" {
			if sub, err = expand(vm.SubPathExpr); err != nil {
				return nil, nil, err
			}
		}
		host := v.path
		if sub != "" {
			private := filepath.Join(m.dir, "..subpaths", c.Name, strconv.Itoa(i))
			var pin io.Closer
			if host, pin, err = m.subPath(v, sub, private); err != nil {
				return nil, nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", vm.Name, c.Name, err)
			}
			held = append(held, pin)
		}
		mounts = append(mounts, runtime.Mount{Guest: vm.MountPath, Host: host, ReadOnly: vm.ReadOnly || v.readOnly, Quota: v.quota})
	}
	return mounts, held, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// subPath finds a path inside a volume. Guests write to volumes, so a name may
// be a link to anywhere by the time it is used: what is returned does not go
// through the volume by name again.
func (m Mounted) subPath(v mountedVolume, sub, private string) (string, io.Closer, error) {
	if !filepath.IsLocal(sub) {
		return "", nil, fmt.Errorf("%q: want a relative path without '..'", sub)
	}
	root, err := os.OpenRoot(v.path)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(sub)
	if errors.Is(err, fs.ErrNotExist) && !v.readOnly {
		if err = root.MkdirAll(sub, 0o700); err == nil {
			info, err = root.Stat(sub)
		}
	}
	switch {
	case err != nil:
		return "", nil, err
	case v.made:
		host, err := snapshot(root, sub, info, private)
		return host, closers{}, err
	case info.IsDir():
		return pin(root, sub)
	case info.Mode().IsRegular():
		host, err := m.hardLink(v, sub, private)
		return host, closers{}, err
	}
	return "", nil, fmt.Errorf("%q is neither a directory nor a file", sub)
}

// snapshot copies what a subPath of a ConfigMap or the like is now: such a mount
// does not follow updates, as Kubernetes documents.
func snapshot(root *os.Root, sub string, info fs.FileInfo, private string) (string, error) {
	if err := os.RemoveAll(private); err != nil {
		return "", err
	}
	host := filepath.Join(private, filepath.Base(sub))
	if info.IsDir() {
		dir, err := root.OpenRoot(sub)
		if err != nil {
			return "", err
		}
		defer func() { _ = dir.Close() }()
		return host, os.CopyFS(host, dir.FS())
	}
	data, err := root.ReadFile(sub)
	if err == nil {
		err = os.MkdirAll(private, 0o700)
	}
	if err == nil {
		err = os.WriteFile(host, data, info.Mode().Perm())
	}
	return host, err
}

// hardLink gives a file of a volume a second name that guests cannot reach. The
// link is made below the pod's own directory, whatever the name has become; what
// was linked is looked at afterwards, when nobody can change it any more.
func (m Mounted) hardLink(v mountedVolume, sub, private string) (string, error) {
	rel, err := filepath.Rel(m.dir, v.path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%q is a file of a hostPath volume: mount its directory", sub)
	}
	root, err := os.OpenRoot(m.dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	if err := os.RemoveAll(private); err != nil {
		return "", err
	}
	if err := os.MkdirAll(private, 0o700); err != nil {
		return "", err
	}
	host := filepath.Join(private, filepath.Base(sub))
	name, err := filepath.Rel(m.dir, host)
	if err != nil {
		return "", err
	}
	if err := root.Link(filepath.Join(rel, sub), name); err != nil {
		return "", err
	}
	info, err := os.Lstat(host)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.Join(fmt.Errorf("%q is not a file", sub), os.Remove(host))
	}
	return host, err
}
