package rewrite

import "unicode/utf8"

// The subsections of the name section that change. Names of labels count blocks,
// of which we add some, and names of data segments count those; neither is ever
// shown, so they go.
// Source: WebAssembly core specification 2.0, appendix "Custom Sections".
const (
	moduleName    = 0
	functionNames = 1
	localNames    = 2
	labelNames    = 3
	dataNames     = 9
)

const maxNameBytes = 1 << 20

// names renumbers the functions of a name section, and adds those that we add.
// It returns nil for a section that is broken, which is then left out: wazero
// would refuse the module, or believe counts that lie.
func (m *module) names(s section) []byte {
	r := reader{b: s.body, base: s.at}
	out := appendName(nil, "name")
	last, found := -1, false
	for !r.done() {
		id := int(r.byte())
		sub := r.sub(r.count("bytes of names", 1, len(r.b)))
		if r.err != nil || id <= last {
			return nil
		}
		last = id
		if id > functionNames && !found {
			out, found = m.ownNames(out), true
		}
		var body []byte
		switch id {
		case moduleName:
			if name := sub.name(); len(name) <= maxNameBytes {
				body = sub.b
			}
			sub.end("a name")
		case functionNames:
			body, found = m.functionNames(&sub), true
		case localNames:
			body = m.localNames(&sub)
		case labelNames, dataNames:
			continue
		default:
			body = sub.b
			sub.pos = len(sub.b)
		}
		if sub.err != nil || body == nil {
			return nil
		}
		out = appendBytes(append(out, byte(id)), body)
	}
	if !found {
		out = m.ownNames(out)
	}
	return out
}

// ownNames is a subsection of function names with ours alone.
func (m *module) ownNames(out []byte) []byte {
	empty := reader{b: []byte{0}}
	return appendBytes(append(out, functionNames), m.functionNames(&empty))
}

// functionNames renumbers a map of names, and puts ours into their places: the
// import between those of the guest, the helpers last.
func (m *module) functionNames(r *reader) []byte {
	n := r.count("names", 2, m.functionCount())
	out := appendU32(nil, uint32(n+1+int(helperCount)))
	previous, ticked := -1, false
	for range n {
		f := int(r.index("function", m.functionCount()))
		name := r.bytes("bytes of a name")
		if r.err != nil || f <= previous || !utf8.Valid(name) {
			return nil
		}
		previous = f
		if f >= len(m.imported) && !ticked {
			out, ticked = m.tickName(out), true
		}
		out = appendBytes(appendU32(out, m.shift(uint32(f))), name)
	}
	if !r.done() {
		return nil
	}
	if !ticked {
		out = m.tickName(out)
	}
	for h, name := range helperNames {
		out = appendName(appendU32(out, m.helper(helper(h))), name)
	}
	return out
}

func (m *module) tickName(out []byte) []byte {
	return appendName(appendU32(out, m.tick()), meterModule+"."+meterTick)
}

// localNames renumbers the functions of a map of maps of names.
func (m *module) localNames(r *reader) []byte {
	n := r.count("functions", 2, m.functionCount())
	out := appendU32(nil, uint32(n))
	previous := -1
	for range n {
		f := int(r.index("function", m.functionCount()))
		if r.err != nil || f <= previous {
			return nil
		}
		previous = f
		out = appendU32(out, m.shift(uint32(f)))
		start, local := r.pos, -1
		for range r.count("locals", 2, m.limits.Locals) {
			l := int(r.u32())
			name := r.bytes("bytes of a name")
			if r.err != nil || l <= local || !utf8.Valid(name) {
				return nil
			}
			local = l
		}
		out = append(out, r.b[start:r.pos]...)
	}
	if !r.done() {
		return nil
	}
	return out
}
