package rewrite

// parse reads and checks everything but the instructions.
func parse(code []byte, limits Limits) (*module, error) {
	sections, err := split(code)
	if err != nil {
		return nil, err
	}
	m := &module{limits: limits, sections: sections}
	m.graph.on = limits.CallStack > 0
	bodies, counted := 0, false
	for _, s := range sections {
		if s.id == customSection {
			continue
		}
		r := reader{b: s.body, base: s.at}
		switch s.id {
		case typeSection:
			m.parseTypes(&r)
		case importSection:
			m.parseImports(&r)
		case functionSection:
			m.parseFunctions(&r)
		case tableSection:
			m.parseTables(&r)
		case memorySection:
			m.parseMemories(&r)
		case tagSection:
			m.parseTags(&r)
		case globalSection:
			m.parseGlobals(&r)
		case exportSection:
			m.parseExports(&r)
		case startSection:
			r.index("start function", m.functionCount())
		case elementSection:
			m.elements(&r, nil)
		case dataCountSection:
			m.dataCount, counted = int(r.u32()), true
		case codeSection:
			m.parseBodies(&r)
			bodies = len(m.bodies)
		case dataSection:
			m.parseData(&r)
		}
		if r.err == nil {
			r.end("the " + sectionNames[s.id] + " section")
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	if bodies != len(m.functions) {
		return nil, &Error{Offset: len(code), Reason: plural(bodies, "function body", "function bodies") +
			" for " + plural(len(m.functions), "function", "functions")}
	}
	if counted && m.dataCount != len(m.segments) {
		return nil, &Error{Offset: len(code), Reason: plural(len(m.segments), "data segment", "data segments") +
			" and a count that differs"}
	}
	return m, nil
}

func (m *module) parseTypes(r *reader) {
	n := r.count("types", 3, m.limits.Types)
	m.types = make([]signature, 0, n)
	for range n {
		at := r.pos
		switch form := r.byte(); {
		case form == functionForm:
		case form >= 0x4e && form <= 0x5f:
			r.refuse(at, garbageCollected)
		default:
			r.fail(at, "type of unknown form 0x%02x", form)
		}
		m.types = append(m.types, signature{m.valueTypes(r, "parameters"), m.valueTypes(r, "results")})
		if r.err != nil {
			return
		}
	}
}

func (m *module) valueTypes(r *reader, what string) []byte {
	n := r.count(what, 1, m.limits.Params)
	at := r.pos
	list := r.take(n)
	for i, c := range list {
		m.valueType(r, at+i, c)
	}
	return list
}

func (m *module) parseImports(r *reader) {
	for range r.count("imports", 4, m.limits.Imports) {
		at := r.pos
		if name := r.name(); name == meterModule {
			r.fail(at, "an import from the reserved module %q", name)
		}
		r.name()
		at = r.pos
		switch kind := r.byte(); kind {
		case externFunction:
			m.imported = append(m.imported, r.index("type", len(m.types)))
		case externTable:
			m.table(r)
			m.tableCount++
		case externMemory:
			m.memory(r)
			m.memoryImported = true
		case externGlobal:
			m.globalType(r)
			m.importedG++
		case externTag:
			m.tag(r)
		default:
			r.fail(at, "an import of unknown kind %d", kind)
		}
		if r.err != nil {
			return
		}
	}
}

func (m *module) parseFunctions(r *reader) {
	n := r.count("functions", 1, m.limits.Functions-len(m.imported))
	m.functions = make([]uint32, n)
	for i := range m.functions {
		m.functions[i] = r.index("type", len(m.types))
	}
}

// bounds reads the bounds of a table or memory.
func (m *module) bounds(r *reader) (min, max uint32, bounded bool) {
	const hasMax, shared, wide = 1, 2, 4
	at := r.pos
	flags := r.byte()
	switch {
	case flags > hasMax|shared|wide:
		r.fail(at, "unknown limits 0x%02x", flags)
	case flags&wide != 0:
		r.refuse(at, memory64)
	case flags&shared != 0:
		r.refuse(at, threads)
	}
	at = r.pos
	min = r.u32()
	if flags&hasMax != 0 {
		max = r.u32()
		if max < min {
			r.fail(at, "a minimum of %d above the maximum of %d", min, max)
		}
	}
	return min, max, flags&hasMax != 0
}

func (m *module) table(r *reader) tableDef {
	if r.pos < len(r.b) && r.b[r.pos] == emptyType { // with an initial value
		r.refuse(r.pos, typedReferences)
	}
	kind := m.referenceType(r)
	min, max, bounded := m.bounds(r)
	return tableDef{kind, min, max, bounded}
}

func (m *module) parseTables(r *reader) {
	entries := 0
	for range r.count("tables", 3, max(m.limits.Tables-m.tableCount, 0)) {
		at := r.pos
		t := m.table(r)
		entries += int(t.min)
		if entries > m.limits.TableEntries {
			r.fail(at, "tables of %d entries; %d are allowed", entries, m.limits.TableEntries)
		}
		if r.err != nil {
			return
		}
		m.tables = append(m.tables, t)
		m.tableCount++
	}
	m.capTables(entries)
}

// capTables gives each table that may grow an equal share of what the minimums
// leave, so that all together stay below the limit.
func (m *module) capTables(entries int) {
	growing := 0
	for _, t := range m.tables {
		if !t.bounded || t.max > t.min {
			growing++
		}
	}
	if growing == 0 {
		return
	}
	share := uint32((m.limits.TableEntries - entries) / growing)
	for i := range m.tables {
		t := &m.tables[i]
		if room := t.min + share; !t.bounded || t.max > room {
			t.max = room
		}
		t.bounded = true
	}
}

func (m *module) memory(r *reader) {
	const pages = 65_536
	at := r.pos
	if m.memories++; m.memories > 1 {
		r.refuse(at, multiMemory)
		return
	}
	if min, max, _ := m.bounds(r); min > pages || max > pages {
		r.fail(at, "a memory of %d to %d pages; %d are allowed", min, max, pages)
	}
}

func (m *module) parseMemories(r *reader) {
	for range r.count("memories", 2, len(r.b)) {
		m.memory(r)
	}
}

func (m *module) tag(r *reader) {
	if !m.limits.Exceptions {
		r.refuse(r.pos, exceptions)
	}
	at := r.pos
	if attribute := r.byte(); attribute != 0 {
		r.fail(at, "a tag with attribute %d", attribute)
	}
	r.index("type", len(m.types))
	m.tags++
}

func (m *module) parseTags(r *reader) {
	for range r.count("tags", 2, m.limits.Tags) {
		m.tag(r)
	}
}

func (m *module) globalType(r *reader) (kind byte, mutable bool) {
	at := r.pos
	kind = r.byte()
	m.valueType(r, at, kind)
	at = r.pos
	flag := r.byte()
	if flag > 1 {
		r.fail(at, "a global of mutability %d", flag)
	}
	return kind, flag == 1
}

func (m *module) parseGlobals(r *reader) {
	n := r.count("globals", 4, max(m.limits.Globals-m.importedG, 0))
	m.globals = make([]globalDef, 0, n)
	for range n {
		kind, mutable := m.globalType(r)
		at := r.pos
		m.constant(r, nil)
		if r.err != nil {
			return
		}
		m.globals = append(m.globals, globalDef{kind, mutable, r.b[at:r.pos], r.base + at})
		switch kind {
		case typeI32, typeI64, typeF32, typeF64:
		default:
			m.lasting = m.lasting || mutable
		}
	}
}

const (
	externFunction = 0
	externTable    = 1
	externMemory   = 2
	externGlobal   = 3
	externTag      = 4
)

func (m *module) parseExports(r *reader) {
	for range r.count("exports", 3, m.limits.Exports) {
		at := r.pos
		if name := r.name(); reserved(name) {
			r.fail(at, "an export of the reserved name %q", name)
		}
		m.externIndex(r)
		if r.err != nil {
			return
		}
	}
}

// externIndex reads what an export refers to.
func (m *module) externIndex(r *reader) (kind byte, index uint32) {
	at := r.pos
	kind = r.byte()
	switch kind {
	case externFunction:
		return kind, r.index("function", m.functionCount())
	case externTable:
		return kind, r.index("table", m.tableCount)
	case externMemory:
		return kind, r.index("memory", m.memories)
	case externGlobal:
		return kind, r.index("global", m.globalCount())
	case externTag:
		return kind, r.index("tag", m.tags)
	}
	r.fail(at, "an export of unknown kind %d", kind)
	return 0, 0
}
