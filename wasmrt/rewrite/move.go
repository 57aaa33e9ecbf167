package rewrite

import "slices"

// Move says where code went: what began at Old begins at New. Both are offsets
// into the code section, as DWARF counts them. Up to the next Move, code follows
// as it did.
type Move struct{ New, Old uint32 }

// RewriteMoves is Rewrite, and tells where all code went, in the order of both
// Old and New. That takes memory in proportion to the code.
func RewriteMoves(code []byte, limits Limits) ([]byte, []Move, error) {
	out, _, moves, err := rewrite(code, limits, true)
	return out, slices.Clip(moves), err
}

// move notes that what is written next begins at an offset of the function.
func (w *writer) move(at int) {
	if w.noting {
		w.noted = append(w.noted, Move{New: uint32(len(w.out)), Old: uint32(at)})
	}
}

// moved takes what was noted of function i, whose body now ends the output; the
// contents of the code section began at start.
func (a *assembler) moved(w *writer, i, start int) {
	begins := len(a.out) - len(w.out) - start
	from := a.m.bodies[i].at - a.codeAt
	for _, n := range w.noted {
		a.moves = append(a.moves, Move{New: uint32(begins) + n.New, Old: uint32(from) + n.Old})
	}
	w.noted = w.noted[:0]
}
