package rewrite

import "strings"

// module is what the rewriter knows of a module before it writes a byte.
type module struct {
	limits   Limits
	sections []section

	types      []signature
	imported   []uint32 // functions, by type
	functions  []uint32 // defined functions, by type
	importedG  int      // globals
	globals    []globalDef
	tables     []tableDef
	tableCount int // with the imported ones
	memories   int
	tags       int
	dataCount  int // as announced to memory.init

	bodies         []body
	segments       []segment
	targets        int      // of all br_tables read so far
	initialises    bool     // it has memory.init or data.drop
	fills          bool     // it has memory.fill
	copies         bool     // it has memory.copy
	throws         bool     // it has try_table
	lasting        bool     // it has state that no rewind reaches: see RewindGlobal
	resultTypes    []uint32 // of functions with several results, the type of a block that gives them
	memoryImported bool
	vectors        bool // it has instructions on v128
	graph          graph
	opened         []opening // scratch of survey
	work           int       // that the functions read so far take to compile
	references     int       // in all element segments
	addressed      []bool    // functions that a reference may stand for
}

// section is one section of the module as it came.
type section struct {
	id   byte
	name string // of a custom section
	body []byte // for a custom section, what follows the name
	at   int    // where body begins
}

type signature struct{ params, results []byte }

type globalDef struct {
	kind    byte
	mutable bool
	init    []byte
	at      int // of init
}

type tableDef struct {
	kind     byte
	min, max uint32
	bounded  bool
}

func (m *module) functionCount() int { return len(m.imported) + len(m.functions) }

func (m *module) globalCount() int { return m.importedG + len(m.globals) }

// typeOf is the type of the function that the guest calls f.
func (m *module) typeOf(f uint32) signature {
	if int(f) < len(m.imported) {
		return m.types[m.imported[f]]
	}
	return m.types[m.functions[int(f)-len(m.imported)]]
}

// The sections of a module, and the order that they stand in.
const (
	customSection    = 0
	typeSection      = 1
	importSection    = 2
	functionSection  = 3
	tableSection     = 4
	memorySection    = 5
	globalSection    = 6
	exportSection    = 7
	startSection     = 8
	elementSection   = 9
	codeSection      = 10
	dataSection      = 11
	dataCountSection = 12
	tagSection       = 13
)

// sectionOrder[id] is the place of a section among the others, from 1.
var sectionOrder = [...]int{
	typeSection: 1, importSection: 2, functionSection: 3, tableSection: 4, memorySection: 5,
	tagSection: 6, globalSection: 7, exportSection: 8, startSection: 9, elementSection: 10,
	dataCountSection: 11, codeSection: 12, dataSection: 13,
}

var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element",
	"code", "data", "data count", "tag",
}

// split finds the sections of a module.
func split(code []byte) ([]section, error) {
	if len(code) < 8 || string(code[:4]) != "\x00asm" {
		return nil, &Error{Reason: `it does not begin with "\0asm"`}
	}
	if string(code[4:8]) != "\x01\x00\x00\x00" {
		if code[6] == 1 {
			return nil, &UnsupportedFeatureError{Offset: 4, Feature: "component (WASI 0.2)", Advice: "compile to wasip1"}
		}
		return nil, &Error{Offset: 4, Reason: "a version of WebAssembly other than 1"}
	}
	r := reader{b: code, pos: 8}
	var list []section
	last := 0
	for !r.done() {
		at := r.pos
		id := r.byte()
		body := r.sub(r.count("bytes of a section", 1, len(code)))
		s := section{id: id, body: body.b, at: body.base}
		switch {
		case r.err != nil:
		case id == customSection:
			s.name = body.name()
			s.body, s.at = body.b[body.pos:], body.base+body.pos
			if r.err = body.err; r.err != nil {
				return nil, r.err
			}
		case int(id) >= len(sectionOrder):
			r.fail(at, "section %d does not exist", id)
		case sectionOrder[id] <= last:
			r.fail(at, "the %s section is out of order", sectionNames[id])
		default:
			last = sectionOrder[id]
		}
		list = append(list, s)
	}
	return list, r.err
}

// valueType checks one byte that stands at offset at for a value type.
func (m *module) valueType(r *reader, at int, c byte) {
	switch c {
	case typeI32, typeI64, typeF32, typeF64, typeV128, typeFuncref, typeExternref:
	default:
		m.rareType(r, at, c)
	}
}

func (m *module) rareType(r *reader, at int, c byte) {
	switch {
	case r.err != nil:
	case c == typeExnref || c == 0x74:
		if !m.limits.Exceptions || c != typeExnref {
			r.refuse(at, exceptions)
		}
	case c == 0x63 || c == 0x64:
		r.refuse(at, typedReferences)
	case c >= 0x6a && c <= 0x73, c == 0x77, c == 0x78:
		r.refuse(at, garbageCollected)
	default:
		r.fail(at, "value type 0x%02x does not exist", c)
	}
}

// referenceType reads the type of a reference.
func (m *module) referenceType(r *reader) byte {
	at := r.pos
	c := r.byte()
	switch {
	case c == typeFuncref || c == typeExternref:
	case c == typeExnref, c == 0x63, c == 0x64, c >= 0x6a && c <= 0x78:
		m.rareType(r, at, c)
	case c < 0x40:
		r.refuse(at, typedReferences)
	default:
		r.fail(at, "reference type 0x%02x does not exist", c)
	}
	return c
}

// address notes that a reference to the function exists.
func (m *module) address(f uint32) {
	if m.addressed == nil {
		m.addressed = make([]bool, m.functionCount())
	}
	if int(f) < len(m.addressed) {
		m.addressed[f] = true
	}
}

// reserved reports whether a name is one that the host gives meaning to.
func reserved(name string) bool { return strings.HasPrefix(name, reservedPrefix) }
