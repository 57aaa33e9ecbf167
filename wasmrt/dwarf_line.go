package wasmrt

import (
	"encoding/binary"
	"path"
)

// cursor reads bytes of a stranger. Past the end, or once something is wrong,
// it reads zeros.
type cursor struct {
	b   []byte
	pos int
	bad bool
}

func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.pos) {
		c.bad = true
		return nil
	}
	b := c.b[c.pos : c.pos+int(n)]
	c.pos += int(n)
	return b
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uleb() uint64 {
	if c.bad || c.pos > len(c.b) {
		c.bad = true
		return 0
	}
	v, n := binary.Uvarint(c.b[c.pos:])
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.pos += n
	return v
}

// sleb is the signed numbers of DWARF, zigzag those of Go.
func (c *cursor) sleb() int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if c.bad || shift > 63 {
			c.bad = true
			return 0
		}
		v |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			if shift < 57 && b&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (c *cursor) zigzag() int64 {
	v := c.uleb()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *cursor) text() string {
	for i := c.pos; !c.bad && i < len(c.b); i++ {
		if c.b[i] == 0 {
			s := string(c.b[c.pos:min(i, c.pos+maxLineName)])
			c.pos = i + 1
			return s
		}
	}
	c.bad = true
	return ""
}

// Opcodes of a line number program. Source: DWARF 5, section 6.2.5.
const (
	lnsCopy         = 1
	lnsAdvancePC    = 2
	lnsAdvanceLine  = 3
	lnsSetFile      = 4
	lnsConstAddPC   = 8
	lnsFixedAdvance = 9

	lneEndSequence = 1
	lneSetAddress  = 2
)

// lineProgram runs the line number programs of a module, of DWARF 2 to 5, and
// collects what they say. (Package debug/dwarf believes counts that lie, at the
// cost of the process's memory.)
type lineProgram struct {
	str, lineStr []byte
	files        []string
	rows         []lineRow
	known        map[string]int
}

func (p *lineProgram) read(section []byte) {
	p.known = map[string]int{}
	c := cursor{b: section}
	for !c.bad && c.pos < len(c.b) && len(p.rows) < maxLineRows {
		size := c.u32()
		if size >= 0xfffffff0 { // 64-bit DWARF: modules have 32 bits
			return
		}
		p.unit(cursor{b: c.take(uint64(size))})
	}
}

// unit is one program with its header.
type unit struct {
	cursor
	minInst, lineRange, opcodeBase byte
	lineBase                       int8
	lengths                        []byte
	files                          []int // by number in the unit, into lineProgram.files
}

func (p *lineProgram) unit(c cursor) {
	u := unit{cursor: c}
	version := u.u16()
	if version < 2 || version > 5 {
		return
	}
	if version == 5 {
		u.take(2) // sizes of addresses and segment selectors
	}
	header := uint64(u.u32())
	start := uint64(u.pos) + header
	u.minInst = u.u8()
	if version >= 4 {
		u.take(1)
	}
	u.take(1)
	u.lineBase, u.lineRange, u.opcodeBase = int8(u.u8()), u.u8(), u.u8()
	if u.bad || u.opcodeBase == 0 || u.lineRange == 0 || start > uint64(len(u.b)) {
		return
	}
	u.lengths = u.take(uint64(u.opcodeBase - 1))
	if version == 5 {
		p.tables(&u)
	} else {
		p.oldTables(&u)
	}
	if u.bad {
		return
	}
	u.pos = int(start)
	p.run(&u)
}

// file numbers a file among all of the module's.
func (p *lineProgram) file(dir, name string) int {
	if !path.IsAbs(name) && dir != "" {
		name = dir + "/" + name
	}
	if n, ok := p.known[name]; ok {
		return n
	}
	if len(p.files) >= maxLineFiles {
		return maxLineFiles // none has that number
	}
	p.known[name] = len(p.files)
	p.files = append(p.files, name)
	return len(p.files) - 1
}

// oldTables are the directories and files of DWARF 2 to 4, counted from 1.
func (p *lineProgram) oldTables(u *unit) {
	dirs := []string{""} // where the compiler ran, which the unit does not say
	for d := u.text(); d != "" && !u.bad; d = u.text() {
		dirs = append(dirs, d)
	}
	u.files = []int{maxLineFiles}
	for name := u.text(); name != "" && !u.bad; name = u.text() {
		dir := u.uleb()
		u.uleb()
		u.uleb()
		u.files = append(u.files, p.file(at(dirs, dir), name))
	}
}

func at(list []string, i uint64) string {
	if i < uint64(len(list)) {
		return list[i]
	}
	return ""
}

// tables are the directories and files of DWARF 5, counted from 0.
func (p *lineProgram) tables(u *unit) {
	var dirs []string
	p.entries(u, func(name string, _ uint64) { dirs = append(dirs, name) })
	p.entries(u, func(name string, dir uint64) { u.files = append(u.files, p.file(at(dirs, dir), name)) })
}

func (p *lineProgram) entries(u *unit, each func(name string, dir uint64)) {
	const contentPath, contentDir = 1, 2
	type format struct{ content, form uint64 }
	formats := make([]format, u.u8())
	for i := range formats {
		formats[i] = format{u.uleb(), u.uleb()}
	}
	for n := u.uleb(); n > 0 && !u.bad; n-- {
		before := u.pos
		var name string
		var dir uint64
		for _, f := range formats {
			text, number := p.form(u, f.form)
			switch f.content {
			case contentPath:
				name = text
			case contentDir:
				dir = number
			}
		}
		if u.pos == before { // an entry of nothing, perhaps 2⁶⁰ times
			u.bad = true
			return
		}
		each(name, dir)
	}
}

// form reads a value in one of the forms that compilers use here.
func (p *lineProgram) form(u *unit, form uint64) (text string, number uint64) {
	indirect := func(table []byte) string {
		c := cursor{b: table}
		c.take(uint64(u.u32()))
		return c.text()
	}
	switch form {
	case 0x08: // string
		return u.text(), 0
	case 0x0e: // strp
		return indirect(p.str), 0
	case 0x1f: // line_strp
		return indirect(p.lineStr), 0
	case 0x0b: // data1
		return "", uint64(u.u8())
	case 0x05: // data2
		return "", uint64(u.u16())
	case 0x06: // data4
		return "", uint64(u.u32())
	case 0x0f: // udata
		return "", u.uleb()
	case 0x07: // data8
		u.take(8)
	case 0x1e: // data16
		u.take(16)
	case 0x09: // block
		u.take(u.uleb())
	default:
		u.bad = true
	}
	return "", 0
}

// machine is the state of a program that runs.
type machine struct {
	addr       uint64
	file, line int64
	dead       bool // of code that the linker left out
}

var atStart = machine{file: 1, line: 1}

func (p *lineProgram) run(u *unit) {
	m := atStart
	for u.pos < len(u.b) && !u.bad && len(p.rows) < maxLineRows {
		switch op := u.u8(); {
		case op >= u.opcodeBase:
			step := op - u.opcodeBase
			m.addr += uint64(step/u.lineRange) * uint64(u.minInst)
			m.line += int64(u.lineBase) + int64(step%u.lineRange)
			p.row(u, m)
		case op == 0:
			p.extended(u, &m)
		case op == lnsCopy:
			p.row(u, m)
		case op == lnsAdvancePC:
			m.addr += u.uleb() * uint64(u.minInst)
		case op == lnsAdvanceLine:
			m.line += u.sleb()
		case op == lnsSetFile:
			m.file = int64(u.uleb())
		case op == lnsConstAddPC:
			m.addr += uint64((255-u.opcodeBase)/u.lineRange) * uint64(u.minInst)
		case op == lnsFixedAdvance:
			m.addr += uint64(u.u16())
		default:
			for range u.lengths[op-1] {
				u.uleb()
			}
		}
	}
}

func (p *lineProgram) extended(u *unit, m *machine) {
	arg := cursor{b: u.take(u.uleb())}
	switch arg.u8() {
	case lneEndSequence:
		m.line = 0
		p.row(u, *m)
		*m = atStart
	case lneSetAddress:
		m.addr = uint64(arg.u32())
		m.dead = m.addr == 0 || m.addr >= 0xfffffffe
	}
}

// row notes where a line begins, or with line 0 that a sequence ends.
func (p *lineProgram) row(u *unit, m machine) {
	if m.dead || m.addr > 1<<32-1 || m.line < 0 || m.line > 1<<30 {
		return
	}
	file := maxLineFiles
	if m.file >= 0 && m.file < int64(len(u.files)) {
		file = u.files[m.file]
	}
	p.rows = append(p.rows, lineRow{at: uint32(m.addr), file: file, line: int(m.line)})
}
