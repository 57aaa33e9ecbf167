package wasi

import (
	"fmt"
	"path"
)

// openMounts opens every mount. Files that are mounted into the same directory
// share one descriptor, and so do files mounted into a mounted directory:
// guests look a path up in the one preopened directory that fits it best.
func openMounts(mounts []Mount) ([]*descriptor, error) {
	var order []*descriptor
	byName := map[string]*descriptor{}
	for _, m := range mounts {
		d, err := openMount(m)
		if err == nil {
			if have := byName[d.name]; have == nil {
				byName[d.name] = d
				order = append(order, d)
				continue
			} else if err = merge(have, d); err == nil {
				continue
			}
			d.close()
		}
		for _, d := range order {
			d.close()
		}
		return nil, fmt.Errorf("mount %s at %s: %w", m.Host, m.Guest, err)
	}
	return order, nil
}

// merge adds what is mounted at b to a, which has the same path in the guest.
func merge(a, b *descriptor) error {
	into, from := a.file.(*directory), b.file.(*directory)
	if from.root != nil {
		if into.root != nil {
			return fmt.Errorf("%s is mounted twice", a.name)
		}
		into.root, into.mount = from.root, from.mount
		a.rights, a.inherit = b.rights, b.inherit
	}
	for name, f := range from.files {
		if _, twice := into.files[name]; twice {
			return fmt.Errorf("%s is mounted twice", path.Join(a.name, name))
		}
		if into.files == nil {
			into.files = map[string]mountedFile{}
		}
		into.files[name] = f
	}
	return nil
}
