//go:build !unix

package wasi

// Between two directory handles this system offers no call that stays inside
// both, so they count as two devices.

func link(from, to place) error {
	if from.dir.root != to.dir.root {
		return errCrossDevice
	}
	return from.dir.root.Link(from.path, to.path)
}

func rename(from, to place) error {
	if from.dir.root != to.dir.root {
		return errCrossDevice
	}
	return from.dir.root.Rename(from.path, to.path)
}
