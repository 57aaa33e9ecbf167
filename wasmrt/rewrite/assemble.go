package rewrite

import (
	"strconv"
	"strings"
)

// assembler writes the rewritten module, section by section.
type assembler struct {
	m      *module
	out    []byte
	report Report
	merged bool // the data segments are not those of the original
	named  bool // the name section is written
	done   int  // place of the last section written

	noting bool // whether moves are wanted
	moves  []Move
	codeAt int // where the contents of the original's code section begin
}

// added are the sections that a rewritten module has in any case, in order.
var added = [...]byte{typeSection, importSection, functionSection, globalSection, exportSection, codeSection}

func (a *assembler) assemble() error {
	for _, s := range a.m.sections {
		if s.id == customSection {
			a.custom(s)
			continue
		}
		if err := a.until(sectionOrder[s.id]); err != nil {
			return err
		}
		if err := a.section(s.id, &s); err != nil {
			return err
		}
	}
	if err := a.until(len(sectionOrder)); err != nil {
		return err
	}
	if !a.named {
		a.out = appendSection(a.out, customSection, a.m.ownNames(appendName(nil, "name")))
	}
	return nil
}

// until writes the sections that the original lacks, up to a place.
func (a *assembler) until(place int) error {
	for _, id := range added {
		if order := sectionOrder[id]; order > a.done && order < place {
			if err := a.section(id, &section{id: id, body: []byte{0}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// custom writes a custom section. The addresses in debug information are those
// of the original code; wrong ones are worse than none.
func (a *assembler) custom(s section) {
	var body []byte
	switch {
	case strings.HasPrefix(s.name, ".debug_"), s.name == "sourceMappingURL", s.name == "external_debug_info":
	case s.name != "name":
		body = append(appendName(nil, s.name), s.body...)
	case !a.named:
		body = a.m.names(s)
		a.named = body != nil
	}
	if body == nil {
		a.report.Dropped = append(a.report.Dropped, s.name)
		return
	}
	a.out = appendSection(a.out, customSection, body)
}

func (a *assembler) section(id byte, s *section) error {
	a.done = sectionOrder[id]
	r := &reader{b: s.body, base: s.at}
	var body []byte
	switch id {
	case typeSection:
		body = a.m.appendTypes(r)
	case importSection:
		body = a.m.appendImports(r)
	case functionSection:
		body = a.m.appendFunctions(r)
	case tableSection:
		body = a.m.appendTables()
	case globalSection:
		body = a.globals()
	case exportSection:
		body = a.exports(r)
	case startSection:
		body = appendU32(nil, a.m.shift(r.u32()))
	case elementSection:
		body = a.m.elements(r, nil)
	case dataCountSection:
		body = appendU32(nil, uint32(len(a.m.segments)))
	case codeSection:
		a.codeAt = s.at
		return a.code()
	case dataSection:
		body = s.body
		if a.merged {
			body = a.m.appendData(nil)
		}
	default:
		body = s.body
	}
	a.out = appendSection(a.out, id, body)
	return r.err
}

// The types that we add stand behind the guest's.
const (
	tickType   = iota // ()
	chargeType        // (i64)
	bulkType          // (i32, i32, i32)
	addedTypes
)

func (m *module) bulkType() uint32 { return uint32(len(m.types)) + bulkType }

func (m *module) appendTypes(r *reader) []byte {
	r.u32()
	m.resultTypes = make([]uint32, len(m.types))
	n := uint32(len(m.types)) + addedTypes
	var blocks []byte
	for i, t := range m.types {
		if len(t.results) > 1 {
			m.resultTypes[i] = n
			n++
			blocks = appendBytes(append(blocks, functionForm, 0), t.results)
		}
	}
	out := append(appendU32(nil, n), r.b[r.pos:]...)
	out = append(out, functionForm, 0, 0)
	out = append(out, functionForm, 1, typeI64, 0)
	out = append(out, functionForm, 3, typeI32, typeI32, typeI32, 0)
	return append(out, blocks...)
}

// appendResultType is the type of a block that gives what a function gives.
func (m *module) appendResultType(out []byte, function uint32) []byte {
	switch t := m.types[function]; len(t.results) {
	case 0:
		return append(out, emptyType)
	case 1:
		return append(out, t.results[0])
	default:
		return appendSigned(out, int64(m.resultTypes[function]))
	}
}

func (m *module) appendImports(r *reader) []byte {
	out := append(appendU32(nil, r.u32()+1), r.b[r.pos:]...)
	out = appendName(appendName(out, meterModule), meterTick)
	return appendOp(out, externFunction, uint32(len(m.types))+tickType)
}

func (m *module) appendFunctions(r *reader) []byte {
	out := append(appendU32(nil, r.u32()+uint32(helperCount)), r.b[r.pos:]...)
	for h := range helperCount {
		kind := uint32(len(m.types))
		switch h {
		case chargeHelper:
			kind += chargeType
		case deepHelper:
			kind += tickType
		default:
			kind += bulkType
		}
		out = appendU32(out, kind)
	}
	return out
}

func (m *module) appendTables() []byte {
	out := appendU32(nil, uint32(len(m.tables)))
	for _, t := range m.tables {
		out = append(out, t.kind, byte(b2i(t.bounded)))
		out = appendU32(out, t.min)
		if t.bounded {
			out = appendU32(out, t.max)
		}
	}
	return out
}

// globals writes the guest's globals, the fuel, and the depth.
func (a *assembler) globals() []byte {
	m := a.m
	out := appendU32(nil, uint32(len(m.globals)+1+b2i(m.graph.on)))
	for _, g := range m.globals {
		out = append(out, g.kind, byte(b2i(g.mutable)))
		out = m.constant(&reader{b: g.init, base: g.at}, out)
	}
	out = append(out, typeI64, 1, opI64Const, 0, opEnd)
	if m.graph.on {
		out = append(out, typeI32, 1, opI32Const, 0, opEnd)
	}
	return out
}

func (a *assembler) exports(r *reader) []byte {
	m := a.m
	n := r.u32()
	var out []byte
	for range n {
		out = appendBytes(out, r.bytes("bytes of a name"))
		kind, index := m.externIndex(r)
		if kind == externFunction {
			index = m.shift(index)
		}
		out = appendOp(out, kind, index)
	}
	global := func(name string, index uint32) {
		n++
		out = appendOp(appendName(out, name), externGlobal, index)
	}
	global(fuelGlobal, m.fuel())
	if a.report.Rewindable = !m.lasting; a.report.Rewindable {
		global(rewindGlobal, m.fuel())
	}
	if m.graph.on {
		global(depthGlobal, m.depth())
		a.report.Globals = append(a.report.Globals, depthGlobal)
	}
	for i, g := range m.globals {
		if number := m.importedG + i; g.mutable {
			name := globalPrefix + strconv.Itoa(number)
			global(name, uint32(number))
			a.report.Globals = append(a.report.Globals, name)
		}
	}
	return append(appendU32(nil, n), out...)
}

// code writes the functions. The length of the section, unknown until then, is
// written in five bytes.
func (a *assembler) code() error {
	const padded = 5
	start := len(a.out) + 1
	a.out = append(a.out, codeSection, 0, 0, 0, 0, 0)
	a.out = appendU32(a.out, uint32(len(a.m.bodies)+int(helperCount)))
	w := writer{m: a.m, plan: plan{m: a.m}, noting: a.noting}
	for i := range a.m.bodies {
		var err error
		if a.out, err = w.function(a.out, i); err != nil {
			return err
		}
		a.moved(&w, i, start+padded)
	}
	a.out = a.m.helpers(a.out)
	a.report.Looks = w.metered
	size := uint32(len(a.out) - start - padded)
	for i := range padded {
		a.out[start+i] = byte(size>>(7*i))&0x7f | 0x80
	}
	a.out[start+padded-1] &^= 0x80
	return nil
}
