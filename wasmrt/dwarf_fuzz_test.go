package wasmrt

import (
	"bytes"
	"debug/dwarf"
	"slices"
	"strings"
	"testing"

	"copepod/wasmrt/rewrite"
)

func sectionOf(name string) []byte {
	for _, s := range standIn() {
		if s.name == name {
			return s.body
		}
	}
	return nil
}

func TestTheStandInIsDWARFOfOneLine(t *testing.T) {
	d, err := dwarf.New(sectionOf(".debug_abbrev"), nil, nil, sectionOf(".debug_info"), sectionOf(debugLine), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	unit, err := d.Reader().Next()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := d.LineReader(unit)
	if err != nil {
		t.Fatal(err)
	}
	var row dwarf.LineEntry
	if err := lines.SeekPC(12345, &row); err != nil || row.File.Name != standInFile || row.Line != 1 {
		t.Errorf("got %+v, %v, want line 1 of %s", row, err, standInFile)
	}
	p := lineProgram{}
	p.read(sectionOf(debugLine))
	want := []lineRow{{at: standInFrom, line: 1}, {at: standInTo, line: 0}}
	if !slices.Equal(p.rows, want) || !slices.Equal(p.files, []string{standInFile}) {
		t.Errorf("our reader got %+v of %q", p.rows, p.files)
	}
}

func TestLinesAreFoundBetweenAndNotBehindTheirRows(t *testing.T) {
	packed := pack([]string{"a.c", strings.Repeat("long/", 40) + "b.c\n"}, []lineRow{{10, 0, 5}, {20, 1, 7}, {30, 0, 0}, {40, 9, 1}})
	got := sourceLines(packed, []uint32{9, 10, 19, 20, 35, 45})
	if len(got) != 3 || got[10] != "a.c:5" || got[19] != "a.c:5" || !strings.HasSuffix(got[20], "/b.c\ufffd:7") {
		t.Errorf("got %v", got)
	}
	if got := sourceLines(packed[:len(packed)/2], []uint32{10}); got != nil {
		t.Errorf("got %v of half a table, want nothing", got)
	}
}

// FuzzLines runs what may stand in a module's debug information.
func FuzzLines(f *testing.F) {
	f.Add(sectionOf(debugLine), []byte("a\x00b"))
	f.Add([]byte{20, 0, 0, 0, 5, 0, 4, 0, 9, 0, 0, 0, 1, 1, 1, 0xfb, 14, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, []byte{})
	f.Fuzz(func(t *testing.T, line, text []byte) {
		code := []byte("\x00asm\x01\x00\x00\x00")
		code = appendCustom(code, debugLine, line)
		code = appendCustom(code, debugStr, text)
		code = appendCustom(code, debugLineStr, text)
		out := withLines(code, code, []rewrite.Move{{New: 20, Old: 10}})
		if !bytes.HasPrefix(out, code) {
			t.Error("the module itself changed")
		}
		sourceLines(lineSections(out)[linesSection], []uint32{0, 20, 1 << 31})
		sourceLines(text, []uint32{1}) // a guest may bring a section of that name
		namedLines("\t0x14: @:1\n"+string(text), line)
	})
}
