package wasi

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"sync"
)

// Usage is what a volume holds. Bytes are the sizes of its files, holes
// included, each once however many names it has; Names are its directories,
// files, links and hard links, because every one of them takes room in a
// directory.
type Usage struct{ Bytes, Names int64 }

// Quota bounds what guests keep in a volume. All mounts that show the volume,
// or a part of it, share one Quota, the read-only ones too: a file that was
// removed takes its room until the last descriptor is closed, whoever has it.
//
//	q, err := wasi.NewQuota(dir, wasi.Usage{Bytes: 1 << 30, Names: 1 << 16})
//	mount := wasi.Mount{Guest: "/cache", Host: dir, Quota: q}
//
// A write past the bound is short, and one that finds no room at all fails with
// ENOSPC, as on a file system that is full. What others than guests write there
// is counted when the volume is next scanned, by NewQuota. Where the system
// shows no inode numbers, a file that is open twice may be counted twice.
type Quota struct {
	most Usage

	// tree is held by whoever opens, closes, makes or removes a name, so that
	// what is done and what is counted are one step. It comes before a stored's
	// lock, and mu comes last.
	tree sync.Mutex

	mu   sync.Mutex // guards what follows
	used Usage
	open map[inode]*stored
}

// inode is what tells files apart.
type inode struct{ dev, ino uint64 }

// stored is a file of a volume while it is open.
type stored struct {
	quota *Quota
	key   inode

	mu   sync.Mutex // held while the file changes its size, so that file and count agree
	size int64      // as it is counted; guarded by mu

	refs int  // descriptors; guarded by quota.mu
	gone bool // no name leads here any more; guarded by quota.mu
}

// NewQuota counts what is at path, a directory or a file, and bounds what is
// there from now on. Zero in most is no bound. A volume that holds more already
// is full; so is one nested too deep to be counted.
func NewQuota(path string, most Usage) (*Quota, error) {
	unbounded := func(n int64) int64 {
		if n <= 0 {
			return math.MaxInt64
		}
		return n
	}
	q := &Quota{most: Usage{unbounded(most.Bytes), unbounded(most.Names)}, open: map[inode]*stored{}}
	return q, q.scan(path)
}

// Used is what the volume holds now.
func (q *Quota) Used() Usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

// take reserves up to want bytes, but no fewer than least, and reports how many.
func (q *Quota) take(least, want int64) (int64, errno) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(want, q.most.Bytes-q.used.Bytes)
	if want > 0 && n < least {
		return 0, errNoSpace
	}
	q.used.Bytes += n
	return n, success
}

// takeName reserves a name, and what it takes in bytes.
func (q *Quota) takeName(bytes int64) errno {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used.Names >= q.most.Names || bytes > q.most.Bytes-q.used.Bytes {
		return errNoSpace
	}
	q.used.Names++
	q.used.Bytes += bytes
	return success
}

func (q *Quota) give(u Usage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used.Bytes = max(q.used.Bytes-u.Bytes, 0)
	q.used.Names = max(q.used.Names-u.Names, 0)
}

// adding runs do, which makes the name of p, of so many bytes. A name that is
// there already is no question of room.
func (q *Quota) adding(p place, bytes int64, do func() error) errno {
	if q == nil {
		return toErrno(do())
	}
	q.tree.Lock()
	defer q.tree.Unlock()
	if e := q.takeName(bytes); e != success {
		if _, err := p.dir.root.Lstat(p.path); err == nil {
			return errExist
		}
		return e
	}
	err := do()
	if err != nil {
		q.give(Usage{Bytes: bytes, Names: 1})
	}
	return toErrno(err)
}

// removing runs do, which takes the name of p away.
func (q *Quota) removing(p place, do func() error) errno {
	if q == nil {
		return toErrno(do())
	}
	q.tree.Lock()
	defer q.tree.Unlock()
	info, missing := p.dir.root.Lstat(p.path)
	if err := do(); err != nil {
		return toErrno(err)
	}
	if missing == nil {
		q.forget(info)
	}
	return success
}

// renaming runs do, which puts from where to is. Between volumes there are no
// renames, as between file systems: what moved would have to be counted anew.
func renaming(from, to place, do func() error) errno {
	q := from.dir.mount.quota
	if q != to.dir.mount.quota {
		return errCrossDevice
	}
	if q == nil {
		return toErrno(do())
	}
	q.tree.Lock()
	defer q.tree.Unlock()
	source, err := from.dir.root.Lstat(from.path)
	if err != nil {
		return toErrno(err)
	}
	replaced, missing := to.dir.root.Lstat(to.path)
	if err := do(); err != nil {
		return toErrno(err)
	}
	if missing == nil && !os.SameFile(source, replaced) { // two names of one file both stay
		q.forget(replaced)
	}
	return success
}

// forget counts that a name is gone, and with the last name the file, unless it
// is open. The caller holds q.tree.
func (q *Quota) forget(info fs.FileInfo) {
	st := filestatOf(info)
	gone := Usage{Names: 1}
	if !info.IsDir() && st.links <= 1 {
		gone.Bytes = info.Size()
		q.mu.Lock()
		if s := q.open[inode{st.dev, st.ino}]; s != nil && st.ino != 0 {
			s.gone = true
			gone.Bytes = 0
		}
		q.mu.Unlock()
	}
	q.give(gone)
}

// openFile opens a file for a guest, counting the name if it makes one. It does
// not truncate: that is for stored. The caller holds q.tree.
func (q *Quota) openFile(root *os.Root, name string, mode int) (*os.File, error) {
	mode &^= os.O_TRUNC
	if mode&os.O_CREATE == 0 {
		return root.OpenFile(name, mode, newFileMode)
	}
	if mode&os.O_EXCL == 0 {
		f, err := root.OpenFile(name, mode&^os.O_CREATE, newFileMode)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	} else if _, err := root.Lstat(name); err == nil {
		return nil, fs.ErrExist
	}
	if e := q.takeName(0); e != success {
		return nil, e
	}
	f, err := root.OpenFile(name, mode, newFileMode)
	if err != nil {
		q.give(Usage{Names: 1})
	}
	return f, err
}

// enter notes that a file is open. The caller holds q.tree.
func (q *Quota) enter(info fs.FileInfo) *stored {
	st := filestatOf(info)
	key := inode{st.dev, st.ino}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.open[key]
	if s == nil || key.ino == 0 {
		s = &stored{quota: q, key: key, size: info.Size()}
		if key.ino != 0 {
			q.open[key] = s
		}
	}
	s.refs++
	return s
}

// leave closes a descriptor. The count goes first: once the file is closed its
// inode number may be another's. The caller holds q.tree.
func (s *stored) leave(f *os.File) error {
	q := s.quota
	q.mu.Lock()
	if s.refs--; s.refs == 0 {
		delete(q.open, s.key)
		if s.gone {
			q.used.Bytes = max(q.used.Bytes-s.size, 0)
		}
	}
	q.mu.Unlock()
	return f.Close()
}

// reserve makes room for a write of the buffers at an offset, or for as many of
// their bytes as there is room for. The caller holds s.mu, and calls wrote.
func (s *stored) reserve(bufs [][]byte, at int64) ([][]byte, errno) {
	want := int64(0)
	for _, b := range bufs {
		want += int64(len(b))
	}
	if want == 0 {
		return bufs, success
	}
	if at > math.MaxInt64-want {
		return nil, errFileTooBig
	}
	grow := max(at+want-s.size, 0)
	granted, e := s.quota.take(grow-want+1, grow) // one byte of the write, and the hole before it
	if e != success {
		return nil, e
	}
	s.size += granted
	return first(bufs, want-(grow-granted)), success
}

// first is the first n bytes of the buffers.
func first(bufs [][]byte, n int64) [][]byte {
	for i, b := range bufs {
		if int64(len(b)) >= n {
			bufs[i] = b[:n]
			return bufs[:i+1]
		}
		n -= int64(len(b))
	}
	return bufs
}

// wrote gives back what a write did not use: before is the size before it.
func (s *stored) wrote(before, at int64, n int) {
	end := before
	if n > 0 {
		end = max(before, at+int64(n))
	}
	s.quota.give(Usage{Bytes: s.size - end})
	s.size = end
}

func (s *stored) truncate(f *os.File, size int64) errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	grow := max(size-s.size, 0)
	if _, e := s.quota.take(grow, grow); e != success {
		return e
	}
	if err := f.Truncate(size); err != nil {
		s.quota.give(Usage{Bytes: grow})
		return toErrno(err)
	}
	s.quota.give(Usage{Bytes: max(s.size-size, 0)})
	s.size = size
	return success
}
