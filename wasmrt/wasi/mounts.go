package wasi

import (
	"errors"
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

// Preopens are mounts that are opened once, for any number of guests. Each gets
// descriptors, positions and rights of its own; what they share is the host's
// handle of each directory, by which they look names up and nothing else.
type Preopens struct {
	descriptors []*descriptor
	budget      *Budget
	cost        int64
}

// OpenMounts opens what the mounts name; the budget may be nil. Close has to come
// after that of the last System that shows them.
func OpenMounts(mounts []Mount, budget *Budget) (*Preopens, error) {
	open, err := openMounts(mounts)
	if err != nil {
		return nil, err
	}
	p := &Preopens{descriptors: open}
	for _, d := range open {
		p.cost += costOf(d.file)
	}
	if !budget.take(0, p.cost) {
		p.Close()
		return nil, fmt.Errorf("mounts: %w", errFileTable)
	}
	p.budget = budget
	return p, nil
}

// Close closes the directories.
func (p *Preopens) Close() error {
	var errs []error
	for _, d := range p.descriptors {
		errs = append(errs, d.close())
	}
	p.budget.giveBack(p.cost)
	p.descriptors, p.cost = nil, 0
	return errors.Join(errs...)
}

// shown is a preopened directory as one guest has it.
type shown struct {
	descriptor
	directory directory
}

func (p *Preopens) show() []shown {
	if p == nil || len(p.descriptors) == 0 {
		return nil
	}
	all := make([]shown, len(p.descriptors))
	for n, d := range p.descriptors {
		all[n].descriptor = *d
		from := d.file.(*directory)
		all[n].directory = directory{mount: from.mount, root: from.root, files: from.files, borrowed: true, lent: true}
		all[n].file = &all[n].directory
	}
	return all
}
