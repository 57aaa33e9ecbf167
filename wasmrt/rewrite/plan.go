package rewrite

// plan is what the second reading of a function finds: the places where the
// copy differs from the original, and what each loop weighs.
type plan struct {
	m      *module
	points []point
	loops  []loop // 0 is the function outside of all loops
	frames []frame
	pace   int // the most that may have run since the last look at the fuel
	bulk   bool
}

type loop struct {
	weight int
	calls  bool // of functions that are not light, or of the host
}

// point is a place of the original where something else is written.
type point struct {
	from, to int // what is replaced
	kind     pointKind
	arg      uint32 // a loop, a function, a label
	sub      uint32 // an opcode after opMisc
}

type pointKind uint8

const (
	atLoop pointKind = iota
	atReturn
	atCall     // of a function that is not light
	atLight    // a call of one that is, or a reference to a function
	atIndirect // call_indirect
	atTailCall
	atTailIndirect
	atBulk
	atPace // nothing replaced: a look at the fuel
)

// frame is a block that is open.
type frame struct {
	op    byte
	loop  int // around it
	entry int // plan.pace where it begins
	pace  int // the most of plan.pace that a branch to its end brings
}

// paceMax is how much may run at the most between two looks at the fuel, where
// no loop and no call makes for one: see the package comment.
const paceMax = 20_000

// read plans one function.
func (p *plan) read(b *body) error {
	p.points, p.loops, p.frames = p.points[:0], append(p.loops[:0], loop{}), p.frames[:0]
	p.pace, p.bulk = 0, false
	s := p.m.scan(b)
	s.branch = p.branch
	current, constant := 0, -1 // the i32.const just before, if it was one
	for !s.done() {
		s.next()
		if s.err != nil {
			return s.err
		}
		weight := s.weight + p.extra(&s, constant)
		if p.pace += weight; p.pace > paceMax {
			p.points = append(p.points, point{from: s.at, to: s.at, kind: atPace})
			p.pace = weight
		}
		switch s.op {
		case opLoop:
			p.loops[current].weight += weight
			p.push(&s, current)
			current, weight = len(p.loops), 1
			p.points = append(p.points, point{from: s.pos, to: s.pos, kind: atLoop, arg: uint32(current)})
			p.loops = append(p.loops, loop{})
			p.pace = 0
		case opBlock, opIf, opTryTable:
			p.push(&s, current)
		case opElse:
			if f := p.top(); f != nil {
				f.pace, p.pace = max(f.pace, p.pace), f.entry
			}
		case opEnd:
			p.loops[current].weight += weight
			current, weight = p.pop(&s, current), 0
		default:
			p.note(&s, b, current, constant)
		}
		p.loops[current].weight += weight
		constant = -1
		if s.op == opI32Const {
			constant = int(s.arg)
		}
	}
	return nil
}

func (p *plan) push(s *scanner, current int) {
	p.frames = append(p.frames, frame{op: s.op, loop: current, entry: p.pace})
	s.open++
}

func (p *plan) top() *frame {
	if len(p.frames) == 0 {
		return nil
	}
	return &p.frames[len(p.frames)-1]
}

// pop closes a block, and returns the loop that it stands in.
func (p *plan) pop(s *scanner, current int) int {
	s.open--
	f := p.top()
	if f == nil {
		return current
	}
	p.frames = p.frames[:len(p.frames)-1]
	switch f.op {
	case opLoop:
		outer := &p.loops[f.loop]
		outer.calls = outer.calls || p.loops[current].calls
	case opIf:
		p.pace = max(p.pace, f.pace, f.entry)
	default:
		p.pace = max(p.pace, f.pace)
	}
	return f.loop
}

// branch takes the pace along to the end of the block that a label names.
func (p *plan) branch(label uint32) {
	if i := len(p.frames) - 1 - int(label); i >= 0 {
		p.frames[i].pace = max(p.frames[i].pace, p.pace)
	}
}

// bulkPlain is the longest fill or copy of constant length that stays as it is.
const bulkPlain = 64 << 10

// extra is what an instruction weighs beyond its opcode.
func (p *plan) extra(s *scanner, constant int) int {
	switch s.op {
	case opCall, opReturnCall:
		if b := p.m.defined(s.arg); b != nil && b.light() {
			return b.weight
		}
	case opMisc:
		if p.plainBulk(s, constant) {
			return constant >> bulkShift
		}
	}
	return 0
}

func (p *plan) plainBulk(s *scanner, constant int) bool {
	return (s.sub == miscMemoryFill || s.sub == miscMemoryCopy) && constant >= 0 && constant <= bulkPlain
}

// note records the instructions that are written anew.
func (p *plan) note(s *scanner, b *body, current, constant int) {
	pt := point{from: s.at, to: s.pos, arg: s.arg, sub: s.sub}
	switch s.op {
	case opCall:
		pt.kind = atCall
		if callee := p.m.defined(s.arg); callee != nil && callee.light() {
			pt.kind = atLight
		} else {
			p.loops[current].calls = true
		}
	case opCallIndirect:
		pt.kind = atIndirect
		p.loops[current].calls = true
	case opReturnCall, opReturnCallIndirect:
		pt.kind = atTailCall
		if s.op == opReturnCallIndirect {
			pt.kind = atTailIndirect
		}
		p.loops[current].calls = true
		p.pace = 0
	case opRefFunc:
		pt.kind = atLight
	case opReturn:
		pt.kind, pt.arg = atReturn, uint32(s.open)
		p.pace = 0
	case opMisc:
		if !charged(s.sub) || p.plainBulk(s, constant) {
			return
		}
		pt.kind, p.bulk = atBulk, true
	case opBr, opBrTable, opUnreachable, opThrow, opThrowRef:
		p.pace = 0 // what follows cannot be reached from here
		return
	default:
		return
	}
	p.points = append(p.points, pt)
}

// charged reports whether an instruction after opMisc costs by its length.
func charged(sub uint32) bool {
	switch sub {
	case miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return true
	}
	return false
}

// defined is the body of a function, unless it is imported.
func (m *module) defined(f uint32) *body {
	if int(f) < len(m.imported) {
		return nil
	}
	return &m.bodies[int(f)-len(m.imported)]
}
