package rewrite

import "fmt"

// body is a defined function, and what the first reading of it found.
type body struct {
	code    []byte // the instructions, the last end included
	at      int    // where code begins in the module
	groups  []byte // the declarations of its locals, without their count
	ngroups int
	locals  int // parameters included
	weight  int // of all its instructions
	calls   bool
	loops   bool
	tries   bool

	// What makes a frame large; see depth.go.
	values int // that instructions make
	merges int // locals that are set within a block, summed over all blocks
}

// lightMax is what a function may weigh that is not charged when it is entered:
// its callers pay. An indirect call costs a quarter of that at least, and so a
// storm of them goes five times as far on its fuel as it should, not further.
const lightMax = 64

// light reports whether a function neither loops nor calls, so that it is over
// before it matters.
func (b *body) light() bool { return !b.calls && !b.loops && b.weight <= lightMax }

func (m *module) parseBodies(r *reader) {
	n := r.count("function bodies", 3, m.limits.Functions)
	if n != len(m.functions) {
		r.fail(0, "%d function bodies for %d functions", n, len(m.functions))
		return
	}
	if len(r.b) > m.limits.CodeBytes {
		r.fail(0, "%d bytes of code; %d are allowed", len(r.b), m.limits.CodeBytes)
		return
	}
	m.bodies = make([]body, n)
	total := 0
	for i := range m.bodies {
		sub := r.sub(r.count("bytes of a function", 1, m.limits.BodyBytes))
		if r.err != nil {
			return
		}
		b := &m.bodies[i]
		b.locals = len(m.types[m.functions[i]].params)
		m.declaredLocals(&sub, b)
		if total += b.locals; total > m.limits.TotalLocals {
			sub.fail(0, "more than %d locals in all functions", m.limits.TotalLocals)
		}
		m.graph.begin()
		b.code, b.at = sub.b[sub.pos:], sub.base+sub.pos
		if r.err = sub.err; r.err == nil {
			r.err = m.survey(b)
		}
		if r.err != nil {
			return
		}
	}
}

func (m *module) declaredLocals(r *reader, b *body) {
	b.ngroups = r.count("groups of locals", 2, len(r.b))
	start := r.pos
	for range b.ngroups {
		at := r.pos
		if n := r.u32(); uint64(b.locals)+uint64(n) > uint64(m.limits.Locals) {
			r.fail(at, "a function with %d locals; %d are allowed", uint64(b.locals)+uint64(n), m.limits.Locals)
			return
		} else {
			b.locals += int(n)
		}
		m.valueType(r, r.pos, r.byte())
	}
	b.groups = r.b[start:r.pos]
}

func (m *module) scan(b *body) scanner {
	return scanner{reader: reader{b: b.code, base: b.at}, m: m, locals: b.locals}
}

// opening is what survey knew where a block that is open began.
type opening struct{ sets, loops int }

// survey is the first reading of a function: it checks every instruction, and
// learns what its callers have to know.
func (m *module) survey(b *body) error {
	s := m.scan(b)
	var shape branches
	sets, loops := 0, 0 // locals that were set so far; loops that are open
	m.opened = m.opened[:0]
	for !s.done() {
		s.next()
		if s.err != nil {
			return s.err
		}
		b.weight += s.weight
		shape.note(&s, loops)
		switch s.op {
		case opBlock, opIf, opLoop, opTryTable:
			m.opened = append(m.opened, opening{sets, loops})
			loops += b2i(s.op == opLoop)
			b.values += 1 + int(s.arg)
			b.loops = b.loops || s.op == opLoop
			b.tries = b.tries || s.op == opTryTable
			m.throws = m.throws || b.tries
			if s.open++; s.open > m.limits.Nesting {
				s.fail(s.at, "blocks nested more than %d deep", m.limits.Nesting)
			}
		case opEnd:
			if s.open--; s.open < 0 && !s.done() {
				s.fail(s.pos, "instructions after the end of a function")
			} else if s.open >= 0 {
				b.merges += min(sets-m.opened[s.open].sets, b.locals)
				loops = m.opened[s.open].loops
				m.opened = m.opened[:s.open]
			}
		case opCall, opReturnCall, opCallIndirect, opReturnCallIndirect:
			b.calls = true
			b.values += m.results(&s)
			m.graph.call(&s)
		case opBrTable:
			if m.targets += int(s.arg); m.targets > m.limits.TotalTargets {
				s.fail(s.at, "more than %d targets of br_tables in all", m.limits.TotalTargets)
			}
		case opRefFunc:
			m.address(s.arg)
		case opLocalSet, opLocalTee:
			sets++
		case opTableSet:
			m.lasting = true
			b.values++
		case opMisc:
			m.lasting = m.lasting || lasting(s.sub)
			m.initialises = m.initialises || s.sub == miscMemoryInit || s.sub == miscDataDrop
			m.fills = m.fills || s.sub == miscMemoryFill
			m.copies = m.copies || s.sub == miscMemoryCopy
			b.values++
		case opVector:
			m.vectors = true
			b.values++
		case opLocalGet:
		default:
			b.values++
		}
	}
	if s.open >= 0 {
		s.fail(len(s.b), "a function without its end")
	}
	if m.work += shape.work(); m.work > m.limits.CompileWork {
		s.fail(0, "functions so branched that they take too long to compile, this one with some %d blocks", shape.blocks)
	}
	return s.err
}

// lasting reports whether an instruction after opMisc changes what is neither
// memory nor a global.
func lasting(sub uint32) bool {
	switch sub {
	case miscDataDrop, miscElemDrop, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return true
	}
	return false
}

// results is how many values a call gives.
func (m *module) results(s *scanner) int {
	if s.op == opCall || s.op == opReturnCall {
		return len(m.typeOf(s.arg).results)
	}
	return len(m.types[s.arg].results)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
