package wasmrt

import (
	"encoding/binary"
	"regexp"
	"strconv"
)

// The stand-in is debug information that says one thing: all code comes from
// line 1 of the file "@". The compiler, which would look nothing up otherwise,
// then writes the offset of each frame into the stack of a trap, before that
// file's name; and since the table has one row, looking it up costs nothing.
const standInFile = "@"

type customSection struct {
	name string
	body []byte
}

// Constants of DWARF 4, sections 7.5 and 6.2.
const (
	dwTagCompileUnit = 0x11
	dwAtLowPC        = 0x11
	dwAtHighPC       = 0x12
	dwAtStmtList     = 0x10
	dwFormAddr       = 0x01
	dwFormData4      = 0x06
	dwFormSecOffset  = 0x17

	// The compiler takes addresses next to 0 and to 2³² for those of code that
	// was left out.
	standInFrom = 1
	standInTo   = 0xfffffff0
)

func standIn() []customSection {
	abbrev := []byte{
		1, dwTagCompileUnit, 0,
		dwAtStmtList, dwFormSecOffset, dwAtLowPC, dwFormAddr, dwAtHighPC, dwFormData4,
		0, 0, 0,
	}
	u32 := binary.LittleEndian.AppendUint32
	unit := []byte{4, 0 /* version */, 0, 0, 0, 0 /* abbreviations */, 4 /* bytes of an address */, 1}
	unit = u32(u32(u32(unit, 0), standInFrom), standInTo-standInFrom)

	header := []byte{1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1} // as every compiler has it
	header = append(header, 0)                                                  // no directories
	header = append(append(header, standInFile...), 0, 0, 0, 0, 0)
	program := append(u32([]byte{0, 5, lneSetAddress}, standInFrom), lnsCopy)
	program = append(u32(append(program, 0, 5, lneSetAddress), standInTo), 0, 1, lneEndSequence)
	table := append(u32([]byte{4, 0}, uint32(len(header))), header...)
	table = append(table, program...)

	sized := func(b []byte) []byte { return append(u32(nil, uint32(len(b))), b...) }
	return []customSection{{".debug_abbrev", abbrev}, {".debug_info", sized(unit)}, {debugLine, sized(table)}}
}

// standInLine is how the compiler writes a frame's place.
var standInLine = regexp.MustCompile(`(?m)^(\s*)0x([0-9a-f]+): ` + standInFile + `:1(?: \(inlined\))?\n?`)

// namedLines puts lines of the guest's source in the place of the stand-in's.
func namedLines(message string, packed []byte) string {
	var offsets []uint32
	for _, m := range standInLine.FindAllStringSubmatch(message, maxFrames) {
		if n, err := strconv.ParseUint(m[2], 16, 32); err == nil {
			offsets = append(offsets, uint32(n))
		}
	}
	if len(offsets) == 0 {
		return message
	}
	lines := sourceLines(packed, offsets)
	return standInLine.ReplaceAllStringFunc(message, func(s string) string {
		m := standInLine.FindStringSubmatch(s)
		n, err := strconv.ParseUint(m[2], 16, 32)
		if line := lines[uint32(n)]; err == nil && line != "" {
			return m[1] + line + "\n"
		}
		return ""
	})
}

// maxFrames of a stack have lines; the compiler shows no more than some thirty.
const maxFrames = 64

func itoa(n int) string { return strconv.Itoa(n) }
