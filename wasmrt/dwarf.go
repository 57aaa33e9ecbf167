package wasmrt

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/tetratelabs/wazero"

	"copepod/wasmrt/rewrite"
)

// Traps name lines of the guest's source, where the module has debug
// information. The rewriter moves code, so what DWARF says of it is wrong
// afterwards, and looking it up would cost every guest that exits. So of the
// whole information we keep one table, from offsets in the rewritten code to
// lines, packed, in a custom section of the rewritten module; it is unpacked
// when a guest traps. The compiler gets a stand-in (see dwarf_standin.go).
const linesSection = "copepod.lines"

const (
	maxLineRows  = 1 << 20 // of one module; what comes after has no lines
	maxLineFiles = 1 << 15
	maxLineBytes = 64 << 20 // of a table that is unpacked
	maxLineName  = 1 << 10  // bytes in the name of a file
)

// lineRow says that the code from an offset on comes from a line; from line 0
// on it comes from none.
type lineRow struct {
	at   uint32
	file int
	line int
}

// withLines appends the table to a module that was rewritten, if the original has
// debug information.
func withLines(code, rewritten []byte, moves []rewrite.Move) []byte {
	info := lineSections(code)
	if info[debugLine] == nil || len(moves) == 0 {
		return rewritten
	}
	p := lineProgram{str: info[debugStr], lineStr: info[debugLineStr]}
	p.read(info[debugLine])
	if len(p.rows) == 0 {
		return rewritten
	}
	for i := range p.rows {
		p.rows[i].at = moveTo(moves, p.rows[i].at)
	}
	slices.SortStableFunc(p.rows, func(a, b lineRow) int { return cmp.Compare(a.at, b.at) })
	out := rewritten
	for _, s := range standIn() {
		out = appendCustom(out, s.name, s.body)
	}
	return appendCustom(out, linesSection, pack(p.files, p.rows))
}

// moveTo is where code from an offset went.
func moveTo(moves []rewrite.Move, old uint32) uint32 {
	i := sort.Search(len(moves), func(i int) bool { return moves[i].Old > old }) - 1
	if i < 0 {
		return old
	}
	return moves[i].New + old - moves[i].Old
}

const (
	debugLine    = ".debug_line"
	debugLineStr = ".debug_line_str"
	debugStr     = ".debug_str"
)

// lineSections are the custom sections that lines are made of, and our own.
func lineSections(code []byte) map[string][]byte {
	found := map[string][]byte{}
	c := cursor{b: code, pos: 8}
	for !c.bad && c.pos < len(c.b) {
		id := c.u8()
		section := cursor{b: c.take(c.uleb())}
		if c.bad || id != 0 {
			continue
		}
		name := string(section.take(section.uleb()))
		switch name {
		case debugLine, debugLineStr, debugStr, linesSection:
			found[name] = section.b[section.pos:]
		}
	}
	return found
}

// withoutCustom leaves out the custom sections that nothing here reads: with
// debug information the compiler holds on to all of them.
func withoutCustom(code []byte) []byte {
	c := cursor{b: code, pos: 8}
	out := make([]byte, 0, len(code)+len(code)/16) // and room for the lines
	out = append(out, code[:8]...)
	for !c.bad && c.pos < len(c.b) {
		from := c.pos
		id := c.u8()
		section := cursor{b: c.take(c.uleb())}
		if id == 0 && string(section.take(section.uleb())) != "name" {
			continue
		}
		out = append(out, code[from:c.pos]...)
	}
	return out
}

// linesOf is the table of a compiled module, or nil.
func linesOf(compiled wazero.CompiledModule) []byte {
	for _, s := range compiled.CustomSections() {
		if s.Name() == linesSection {
			return s.Data()
		}
	}
	return nil
}

func appendCustom(out []byte, name string, body []byte) []byte {
	head := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	out = binary.AppendUvarint(append(out, 0), uint64(len(head)+len(body)))
	return append(append(out, head...), body...)
}

// pack makes the table small: differences, and then the usual compression.
func pack(files []string, rows []lineRow) []byte {
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, flate.BestSpeed) // the level exists
	var raw []byte
	raw = binary.AppendUvarint(raw, uint64(len(files)))
	for _, f := range files {
		raw = append(binary.AppendUvarint(raw, uint64(len(f))), f...)
	}
	raw = binary.AppendUvarint(raw, uint64(len(rows)))
	var last lineRow
	for _, r := range rows {
		raw = binary.AppendUvarint(raw, uint64(r.at-last.at))
		raw = binary.AppendUvarint(raw, uint64(r.file))
		raw = binary.AppendVarint(raw, int64(r.line-last.line))
		last = r
	}
	_, _ = z.Write(raw) // into memory
	_ = z.Close()
	return b.Bytes()
}

// sourceLines finds "file:line" for each offset in a packed table, or nothing.
func sourceLines(packed []byte, offsets []uint32) map[uint32]string {
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxLineBytes))
	if err != nil {
		return nil
	}
	c := cursor{b: raw}
	var files []string
	for n := c.uleb(); n > 0 && !c.bad; n-- {
		files = append(files, string(c.take(c.uleb())))
	}
	best := map[uint32]lineRow{}
	var row lineRow
	for n := c.uleb(); n > 0 && !c.bad; n-- {
		row.at += uint32(c.uleb())
		row.file = int(c.uleb())
		row.line += int(c.zigzag())
		for _, o := range offsets {
			if row.at <= o {
				best[o] = row
			}
		}
	}
	found := map[uint32]string{}
	for o, r := range best {
		if r.line > 0 && r.file >= 0 && r.file < len(files) {
			found[o] = sourceLine(files[r.file], r.line)
		}
	}
	return found
}

// sourceLine is fit for one line of text, however the guest's compiler names
// its files.
func sourceLine(file string, line int) string {
	if cut := len(file) - maxShownName + 2*len("…"); cut > 2*len("…") { // the end of a path tells most
		file = "…" + strings.ToValidUTF8(file[cut:], "")
	}
	return shown(file) + ":" + itoa(line)
}
