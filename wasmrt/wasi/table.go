package wasi

import "time"

// file is what a descriptor leads to. What more it can do, it says by the
// other interfaces of this file.
type file interface {
	kind() filetype
	close() error
}

// stream moves bytes without waiting: errAgain says that nothing moves now and
// Poll says when to come again. A read of nothing with success is the end.
type stream interface {
	file
	Pollable
	read(p []byte) (int, errno)
	write(p []byte) (int, errno)
}

// descriptor is one row of the table.
type descriptor struct {
	file
	flags   fdflags
	rights  rights
	inherit rights
	preopen bool
	name    string // a preopened directory's path in the guest
	cost    int64  // what it counts for in the budget

	patience [2]time.Duration // how long a blocking call waits, by Direction; 0: for ever
}

func (d *descriptor) blocking() bool { return d.flags&flagNonblock == 0 }

// table is a guest's descriptors. A new one takes the lowest free number.
type table struct {
	rows   []*descriptor
	free   int     // no row below is free
	budget *Budget // of the host's descriptors; nil: no bound
	held   int64   // of it
}

func (t *table) get(fd uint32) (*descriptor, errno) {
	if uint64(fd) >= uint64(len(t.rows)) || t.rows[fd] == nil {
		return nil, errBadFD
	}
	return t.rows[fd], success
}

// add fails with what it cannot give; the descriptor is then the caller's to
// close.
func (t *table) add(d *descriptor) (uint32, errno) {
	for t.free < len(t.rows) && t.rows[t.free] != nil {
		t.free++
	}
	if t.free == len(t.rows) {
		if len(t.rows) == maxFDs {
			return 0, errTooManyFiles
		}
	}
	cost := costOf(d.file)
	if !t.budget.take(t.held, cost) {
		return 0, errFileTable
	}
	t.held, d.cost = t.held+cost, cost
	if t.free == len(t.rows) {
		t.rows = append(t.rows, nil)
	}
	t.rows[t.free] = d
	return uint32(t.free), success
}

func (t *table) remove(fd uint32) (*descriptor, errno) {
	d, e := t.get(fd)
	if e != success {
		return nil, e
	}
	t.rows[fd] = nil
	t.free = min(t.free, int(fd))
	t.giveBack(d)
	return d, success
}

func (t *table) giveBack(d *descriptor) {
	t.held -= d.cost
	t.budget.giveBack(d.cost)
}

// renumber moves from onto to, which must be open; what to was is closed.
func (t *table) renumber(from, to uint32) errno {
	moved, e := t.get(from)
	if e != success {
		return e
	}
	old, e := t.get(to)
	if e != success || from == to {
		return e
	}
	t.rows[from], t.rows[to] = nil, moved
	t.free = min(t.free, int(from))
	t.giveBack(old)
	return toErrno(old.close())
}

func (t *table) closeAll() {
	for fd, d := range t.rows {
		if d != nil {
			d.close()
			t.rows[fd] = nil
			t.giveBack(d)
		}
	}
	t.rows = nil
}

// room reports whether one more descriptor fits, as far as that is known before
// it is opened.
func (t *table) room() errno {
	if !t.budget.fits(t.held, usualCost) {
		return errFileTable
	}
	if t.free < len(t.rows) {
		for fd := t.free; fd < len(t.rows); fd++ {
			if t.rows[fd] == nil {
				return success
			}
		}
	}
	if len(t.rows) == maxFDs {
		return errTooManyFiles
	}
	return success
}
