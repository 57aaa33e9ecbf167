package rewrite

// shape of the branches of a function, by which it is judged how long the
// compiler will be at it. Measured on wazero 1.12: the time for a function goes
// with the square of its basic blocks, loops within loops come on top, and a
// br_table goes with the square of its targets. 20,000 ifs in a row (120 KB) take
// 12 s, 10,000 nested loops (30 KB) 56 s, a br_table of 65,520 targets 1 s.
type branches struct {
	blocks  int // basic blocks, about
	nested  int // loops around loops, summed over all loops
	squares int // of the targets of each br_table
}

// work is the estimate, in nanoseconds.
func (b *branches) work() int { return 8*b.blocks*b.blocks + 500*b.nested + b.squares/4 }

// note counts one instruction; loops is how many are open around it.
func (b *branches) note(s *scanner, loops int) {
	switch s.op {
	case opBlock, opTryTable, opElse, opBrIf:
		b.blocks++
	case opIf:
		b.blocks += 2
	case opLoop:
		b.blocks += 4 // with the look at the fuel
		b.nested += loops
	case opBrTable:
		b.squares += int(s.arg) * int(s.arg)
	}
}
