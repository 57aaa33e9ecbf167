package wasmrt

import (
	"slices"

	"github.com/tetratelabs/wazero/api"
)

// parser gathers a ModuleInfo from a module's sections.
type parser struct {
	info        *ModuleInfo
	types       []signature
	last        int // the order of the last section that was not custom
	unsupported error
}

type signature struct{ params, results []api.ValueType }

// Section numbers, and the order in which they stand in a module.
const (
	sectionCustom = 0
	sectionType   = 1
	sectionImport = 2
	sectionMemory = 5
	sectionExport = 7
	sectionStart  = 8
	sectionCode   = 10
)

var sectionOrder = []byte{1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11}

func (p *parser) section(id byte, d *decoder) {
	if id != sectionCustom {
		order := slices.Index(sectionOrder, id) + 1
		switch {
		case order == 0:
			d.fail(0, "section %d does not exist", id)
			return
		case order <= p.last:
			d.fail(0, "section %d is out of order", id)
			return
		}
		p.last = order
	}
	switch id {
	case sectionType:
		p.typeSection(d)
	case sectionImport:
		p.importSection(d)
	case sectionMemory:
		p.memorySection(d)
	case sectionExport:
		p.exportSection(d)
	case sectionStart:
		p.info.Start = true
	case sectionCode:
		p.codeSection(d)
	}
}

// needs notes the first feature that we do not have.
func (p *parser) needs(feature, advice string) {
	if p.unsupported == nil {
		p.unsupported = &UnsupportedError{Feature: feature, Advice: advice}
	}
}

func (p *parser) typeSection(d *decoder) {
	const functionType = 0x60
	for range d.count("types") {
		at := d.pos
		if form := d.byte(); form != functionType {
			if form >= 0x4e && form <= 0x5f && d.err == nil {
				p.needs("garbage-collected types", "build without the GC proposal")
				d.pos = len(d.b) // their shape is unknown to us
				return
			}
			d.fail(at, "type of unknown form 0x%02x", form)
			return
		}
		params := p.valueTypes(d)
		p.types = append(p.types, signature{params, p.valueTypes(d)})
	}
}

func (p *parser) valueTypes(d *decoder) []api.ValueType {
	b := d.take(d.count("value types"))
	return slices.Clone(b)
}

func (p *parser) importSection(d *decoder) {
	for range d.count("imports") {
		i := Import{Module: d.name(), Name: d.name()}
		at := d.pos
		switch i.Kind = d.byte(); i.Kind {
		case api.ExternTypeFunc:
			at = d.pos
			n := d.u32()
			if int(n) >= len(p.types) {
				d.fail(at, "import %s has type %d of %d", i.label(), n, len(p.types))
				return
			}
			i.Params, i.Results = p.types[n].params, p.types[n].results
		case api.ExternTypeTable:
			d.byte()
			p.limits(d)
		case api.ExternTypeMemory:
			p.limits(d)
		case api.ExternTypeGlobal:
			d.byte()
			d.byte()
		case 4: // a tag
			d.byte()
			d.u32()
		default:
			d.fail(at, "import %s of unknown kind %d", i.label(), i.Kind)
		}
		if d.err != nil {
			return
		}
		p.info.Imports = append(p.info.Imports, i)
	}
}

// limits reads the bounds of a table or memory.
func (p *parser) limits(d *decoder) (min, max uint32, bounded bool) {
	const hasMax, shared, wide = 1, 2, 4
	flags := d.byte()
	switch {
	case flags&wide != 0:
		p.needs("64-bit memory", "build for wasm32")
		d.skipNumber()
		if flags&hasMax != 0 {
			d.skipNumber()
		}
		return 0, 0, false
	case flags&shared != 0:
		p.needs("shared memory", "threads are not supported: build without them")
	case flags > hasMax|shared|wide:
		d.fail(d.pos-1, "unknown limits 0x%02x", flags)
	}
	min = d.u32()
	if flags&hasMax != 0 {
		max = d.u32()
	}
	return min, max, flags&hasMax != 0
}

func (p *parser) memorySection(d *decoder) {
	n := d.count("memories")
	if n > 1 {
		p.needs("more than one memory", "build without the multi-memory proposal")
	}
	for i := range n {
		at := d.pos
		min, max, bounded := p.limits(d)
		if min > maxPages || bounded && (max > maxPages || max < min) {
			d.fail(at, "a memory of %d to %d pages", min, max)
			return
		}
		if i == 0 {
			p.info.Memory = true
			p.info.MinMemory, p.info.MaxMemory = pagesToBytes(min), pagesToBytes(max)
		}
	}
}

func (p *parser) exportSection(d *decoder) {
	for range d.count("exports") {
		e := Export{Name: d.name(), Kind: d.byte()}
		d.u32()
		if d.err != nil {
			return
		}
		p.info.Exports = append(p.info.Exports, e)
	}
}

// codeSection looks only at what each function announces: a count of locals
// that lies would have the compiler allocate it.
func (p *parser) codeSection(d *decoder) {
	for range d.count("functions") {
		body := d.section(d.count("bytes of a function"))
		total := uint64(0)
		for range body.count("groups of locals") {
			at := body.pos
			total += uint64(body.u32())
			body.byte()
			if total > maxLocals {
				body.fail(at, "a function with %d locals; %d are allowed", total, maxLocals)
			}
		}
		if d.err == nil {
			d.err = body.err
		}
		if d.err != nil {
			return
		}
	}
}
