package rewrite

// chunk is how much a loop without calls may run up in its register before it
// charges the global: some three microseconds.
const chunk = 10_000

// writer writes the functions of the rewritten module.
type writer struct {
	m    *module
	plan plan
	out  []byte // the function under way

	// Of the function under way: its own locals, behind the guest's.
	scratch  uint32 // i64
	budget   uint32 // i64: run up, and not yet charged
	length   uint32 // i32: of a bulk operation
	outside  uint32 // i32: the call stack when it was entered
	inside   uint32 // i32: the call stack with it
	register bool   // it has a budget
	counted  int    // bytes of call stack that it takes, or 0
	wrapped  bool   // its instructions stand in a block of their own
	body     *body

	noting bool
	noted  []Move // of the function under way, by offsets into it

	metered int // loops and functions that look at the fuel
}

// function appends the rewritten function to out, as the code section has it.
func (w *writer) function(out []byte, index int) ([]byte, error) {
	b := &w.m.bodies[index]
	if err := w.plan.read(b); err != nil {
		return out, err
	}
	w.body = b
	w.register = false
	for _, l := range w.plan.loops[1:] {
		w.register = w.register || !l.calls && w.m.registers()
	}
	w.counted = w.m.graph.cost(index)
	w.wrapped = w.register || w.counted > 0
	w.out = w.locals(w.out[:0])
	w.enter(index)
	at := 0
	for _, p := range w.plan.points {
		w.move(at)
		w.out = append(w.out, b.code[at:p.from]...)
		w.move(p.from)
		w.point(p)
		at = p.to
	}
	w.move(at)
	w.out = append(w.out, b.code[at:]...)
	w.leave()
	return appendBytes(out, w.out), nil
}

// registers reports whether loops may run up a budget. An exception that passes
// through a function takes no budget along, so not where there are exceptions.
func (m *module) registers() bool { return m.tags == 0 && !m.throws }

// locals declares the guest's locals and ours.
func (w *writer) locals(out []byte) []byte {
	next := uint32(w.body.locals)
	wide, narrow := uint32(0), uint32(0)
	take := func(need bool, n *uint32) uint32 {
		if !need {
			return 0
		}
		*n++
		next++
		return next - 1
	}
	w.scratch = take(!w.body.light(), &wide)
	w.budget = take(w.register, &wide)
	w.length = take(w.plan.bulk, &narrow)
	w.outside = take(w.counted > 0, &narrow)
	w.inside = take(w.counted > 0, &narrow)
	groups := w.body.ngroups + b2i(wide > 0) + b2i(narrow > 0)
	out = append(appendU32(out, uint32(groups)), w.body.groups...)
	if wide > 0 {
		out = append(appendU32(out, wide), typeI64)
	}
	if narrow > 0 {
		out = append(appendU32(out, narrow), typeI32)
	}
	return out
}

// enter charges for the function outside of its loops.
func (w *writer) enter(index int) {
	if w.counted > 0 {
		w.descend()
	}
	switch weight := w.plan.loops[0].weight; {
	case w.body.light():
	case w.register && !w.plan.loops[0].calls:
		w.out = appendI64Const(w.out, int64(weight))
		w.out = appendOp(w.out, opLocalSet, w.budget)
		w.metered++
	default:
		w.charge(weight, false)
	}
	if w.wrapped {
		w.out = w.m.appendResultType(append(w.out, opBlock), w.m.functions[index])
	}
}

// leave ends the block around the function, and settles its account.
func (w *writer) leave() {
	if !w.wrapped {
		return
	}
	switch {
	case w.register && !w.plan.loops[0].calls:
		// Nothing in it looked at the fuel for sure, and its caller may call
		// it a million times in a row.
		w.out = appendOp(w.out, opGlobalGet, w.m.fuel())
		w.out = appendOp(w.out, opLocalGet, w.budget)
		w.out = append(w.out, opI64Sub)
		w.settle(false)
	case w.register:
		w.flush()
	}
	if w.counted > 0 {
		w.ascend()
	}
	w.out = append(w.out, opEnd)
}

// charge takes weight from the fuel, and the budget with it, and ticks below
// zero.
func (w *writer) charge(weight int, budget bool) {
	w.metered++
	w.out = appendOp(w.out, opGlobalGet, w.m.fuel())
	if budget {
		w.out = appendOp(w.out, opLocalGet, w.budget)
		w.out = append(w.out, opI64Sub)
	}
	w.out = appendI64Const(w.out, int64(weight))
	w.out = append(w.out, opI64Sub)
	w.settle(budget)
}

// settle makes the value on the stack the fuel.
func (w *writer) settle(budget bool) {
	w.out = appendOp(w.out, opLocalTee, w.scratch)
	w.out = appendOp(w.out, opGlobalSet, w.m.fuel())
	if budget {
		w.out = appendI64Const(w.out, 0)
		w.out = appendOp(w.out, opLocalSet, w.budget)
	}
	w.out = appendOp(w.out, opLocalGet, w.scratch)
	w.out = appendI64Const(w.out, 0)
	w.out = append(w.out, opI64LtS, opIf, emptyType)
	w.out = appendOp(w.out, opCall, w.m.tick())
	w.out = append(w.out, opEnd)
}

// flush takes the budget from the fuel, where somebody else is about to look.
func (w *writer) flush() {
	w.out = appendOp(w.out, opGlobalGet, w.m.fuel())
	w.out = appendOp(w.out, opLocalGet, w.budget)
	w.out = append(w.out, opI64Sub)
	w.out = appendOp(w.out, opGlobalSet, w.m.fuel())
	w.out = appendI64Const(w.out, 0)
	w.out = appendOp(w.out, opLocalSet, w.budget)
}

// runUp adds weight to the budget, and charges for it from a chunk on.
func (w *writer) runUp(weight int) {
	w.metered++
	w.out = appendOp(w.out, opLocalGet, w.budget)
	w.out = appendI64Const(w.out, int64(weight))
	w.out = append(w.out, opI64Add)
	w.out = appendOp(w.out, opLocalTee, w.budget)
	w.out = appendI64Const(w.out, chunk)
	w.out = append(w.out, opI64GtS, opIf, emptyType)
	w.out = appendOp(w.out, opLocalGet, w.budget)
	w.out = appendOp(w.out, opCall, w.m.helper(chargeHelper))
	w.out = appendI64Const(w.out, 0)
	w.out = appendOp(w.out, opLocalSet, w.budget)
	w.out = append(w.out, opEnd)
}

func (w *writer) point(p point) {
	switch p.kind {
	case atLoop:
		l := w.plan.loops[p.arg]
		if w.register && !l.calls {
			w.runUp(l.weight)
		} else {
			w.charge(l.weight, w.register)
		}
	case atPace:
		w.charge(paceMax, w.register)
	case atReturn:
		if w.wrapped {
			w.out = appendOp(w.out, opBr, p.arg)
		} else {
			w.out = append(w.out, opReturn)
		}
	case atBulk:
		w.bulk(p)
	case atLight:
		w.out = appendOp(w.out, w.body.code[p.from], w.m.shift(p.arg))
	default:
		w.call(p)
	}
}

// call writes a call of a function that looks at the fuel, or at the call
// stack.
func (w *writer) call(p point) {
	host := p.kind == atCall && w.m.defined(p.arg) == nil
	if w.register && !host {
		w.flush()
	}
	if w.counted > 0 && w.body.tries {
		// An exception that was caught left the count where it was thrown.
		w.out = appendOp(w.out, opLocalGet, w.inside)
		w.out = appendOp(w.out, opGlobalSet, w.m.depth())
	}
	switch p.kind {
	case atCall:
		w.out = appendOp(w.out, opCall, w.m.shift(p.arg))
	case atTailCall:
		w.replaced(w.m.typeOf(p.arg))
		w.out = appendOp(w.out, opReturnCall, w.m.shift(p.arg))
	case atTailIndirect:
		w.replaced(w.m.types[p.arg])
		fallthrough
	default:
		w.out = append(w.out, w.body.code[p.from:p.to]...)
	}
}

// helper is the number of one of the functions that we append.
func (m *module) helper(h helper) uint32 { return uint32(m.functionCount()) + 1 + uint32(h) }

func (m *module) tick() uint32 { return uint32(len(m.imported)) }

func (m *module) fuel() uint32 { return uint32(m.globalCount()) }

func (m *module) depth() uint32 { return uint32(m.globalCount()) + 1 }
