package wasi

// pathLink makes a hard link. Following a last symbolic link is invalid, as in
// wasmtime.
func pathLink(s *System, f frame) errno {
	from, e := s.place(f.fd(0), f, 2)
	if e != success {
		return e
	}
	to, e := s.place(f.fd(4), f, 5)
	if e != success {
		return e
	}
	if f.u32(1)&lookupFollow != 0 {
		return errInvalid
	}
	if e := movable(from, to); e != success {
		return e
	}
	if from.slash || to.slash {
		return slashes(from, to)
	}
	if from.dir.mount.quota != to.dir.mount.quota {
		return errCrossDevice
	}
	return to.dir.mount.quota.adding(to, 0, func() error { return link(from, to) })
}

func pathRename(s *System, f frame) errno {
	from, e := s.place(f.fd(0), f, 1)
	if e != success {
		return e
	}
	to, e := s.place(f.fd(3), f, 4)
	if e != success {
		return e
	}
	if e := movable(from, to); e != success {
		return e
	}
	if from.slash || to.slash {
		info, err := from.dir.root.Lstat(from.path)
		if err != nil {
			return toErrno(err)
		}
		if !info.IsDir() {
			return errNotDir
		}
	}
	return renaming(from, to, func() error { return rename(from, to) })
}

// slashes is the answer to a hard link of, or as, a path with a slash at its
// end: it names a directory, and directories have no hard links.
func slashes(from, to place) errno {
	info, err := from.dir.root.Lstat(from.path)
	switch {
	case err != nil:
		return toErrno(err)
	case from.slash && !info.IsDir():
		return errNotDir
	case info.IsDir():
		return errNotPermitted
	}
	if _, err := to.dir.root.Lstat(to.path); err == nil {
		return errNotDir
	}
	return errNoEntry
}

func movable(from, to place) errno {
	for _, p := range []place{from, to} {
		if e := p.entry(); e != success {
			return e
		}
		if e := p.named(); e != success {
			return e
		}
	}
	return success
}
