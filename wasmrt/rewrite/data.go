package rewrite

import "slices"

// segment is an entry of the data section.
type segment struct {
	raw    []byte // all of it
	data   []byte
	offset uint32
	fixed  bool // active, at the constant offset
}

func (m *module) parseData(r *reader) {
	const passive, explicit = 1, 2
	n := r.count("data segments", 2, m.limits.DataSegments)
	m.segments = make([]segment, 0, n)
	for range n {
		start := r.pos
		s := segment{}
		flags := r.u32()
		switch {
		case flags > explicit:
			r.fail(start, "a data segment of kind %d", flags)
		case flags == explicit:
			r.index("memory", m.memories)
		}
		if flags != passive {
			at := r.pos
			m.constant(r, nil)
			s.offset, s.fixed = i32Constant(r.b[at:r.pos])
		}
		s.data = r.bytes("bytes of data")
		if r.err != nil {
			return
		}
		s.raw = r.b[start:r.pos]
		m.segments = append(m.segments, s)
	}
}

// Each segment costs the runtime more than the zeroes between it and the next,
// if they are few. No more zeroes are added than the data has bytes, so that a
// small module does not become a large one.
const fillGap = 256

// merge puts segments that lie close to each other into one. It does so only
// where nobody can tell: with a memory of our own, which begins as zeroes, with
// all segments active and at constant offsets, and no instruction that names
// one. Where segments overlap the later one wins, as it does at instantiation.
func (m *module) merge() bool {
	if m.initialises || m.memories != 1 || m.memoryImported || len(m.segments) < 2 {
		return false
	}
	size := 0
	order := make([]int, len(m.segments))
	for i, s := range m.segments {
		if !s.fixed || len(s.data) == 0 || uint64(s.offset)+uint64(len(s.data)) > 1<<32 {
			return false // an empty one counts too: out of bounds, it traps
		}
		size += len(s.data)
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := m.segments[a].offset, m.segments[b].offset; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	runs := m.runs(order, size)
	merged := make([]segment, len(runs))
	owner := make([]int, len(m.segments))
	for i, run := range runs {
		merged[i] = segment{data: make([]byte, run.end-run.start), offset: uint32(run.start), fixed: true}
		for _, j := range order[run.first:run.last] {
			owner[j] = i
		}
	}
	for j, s := range m.segments {
		t := &merged[owner[j]]
		copy(t.data[s.offset-t.offset:], s.data)
	}
	m.segments = merged
	return true
}

// run is a stretch of memory, and the segments that it covers: from first to
// last in the order of their offsets.
type run struct {
	start, end  uint64
	first, last int
}

func (m *module) runs(order []int, zeroes int) []run {
	var runs []run
	for i, j := range order {
		s := &m.segments[j]
		start, end := uint64(s.offset), uint64(s.offset)+uint64(len(s.data))
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			gap := max(int64(start)-int64(last.end), 0)
			if gap <= fillGap && gap <= int64(zeroes) {
				zeroes -= int(gap)
				last.end, last.last = max(last.end, end), i+1
				continue
			}
		}
		runs = append(runs, run{start, end, i, i + 1})
	}
	return runs
}

func (m *module) appendData(out []byte) []byte {
	out = appendU32(out, uint32(len(m.segments)))
	for _, s := range m.segments {
		if s.raw != nil {
			out = append(out, s.raw...)
			continue
		}
		out = appendI32Const(append(out, 0), int32(s.offset))
		out = appendBytes(append(out, opEnd), s.data)
	}
	return out
}
