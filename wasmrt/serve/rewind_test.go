package serve_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/serve"
)

const fresh = "count=1 seen=1 env=false open=false origin=here"

func TestAGoHandlerBeginsEveryRequestAfresh(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) {
		c.Program.Mounts = []wasmrt.Mount{{Guest: "/data", Host: dir}}
		c.Limits.Instances = 1
	})
	for round := range 3 {
		s.expect("/", 200, fresh)
		s.expect("/set", 200, fresh)
		s.expect("/grow", 200, fresh)
		s.expect("/open", 200, fresh)
		s.expect(fmt.Sprintf("/path%d", round), 200, fresh)
		s.expect("/missing", 404, fresh)
		if a := s.get("/"); a.header.Get("X-Left-Behind") != "" {
			t.Errorf("got the header of another request: %v", a.header)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Errorf("what was written to a mount is gone: %v", err)
	}
}

func TestACHandlerBeginsEveryRequestAfresh(t *testing.T) {
	s := newServer(t, cHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.Instances = 2 })
	for range 20 {
		s.expect("/", 200, "count=1 table=7")
		s.expect("/grow", 200, "count=1 table=35")
	}
	s.expect("/trap", 500, "the program failed")
	s.expect("/", 200, "count=1 table=7")
}

// sticky is a module that answers 200 to its first request and something else
// once it finds a trace of an earlier one.
type sticky struct {
	name  string
	build func(m *wasmtest.Module, status uint32)
	reuse bool // its instances can be put back
}

func op(b ...byte) []byte { return b }

var stickies = []sticky{
	{"memory", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		handler(m, wasmtest.I32(200), wasmtest.I32(40000), wasmtest.I32Load, wasmtest.I32Add, wasmtest.Call(status),
			wasmtest.I32(40000), wasmtest.I32(1), wasmtest.I32Store)
	}, true},
	{"a global", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		g := m.MutableI64(0)
		handler(m, wasmtest.I32(200), wasmtest.GlobalGet(g), op(0xa7), wasmtest.I32Add, wasmtest.Call(status),
			wasmtest.I64(1), wasmtest.GlobalSet(g))
	}, true},
	{"grown memory", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 100)
		handler(m, wasmtest.I32(199), wasmtest.MemorySize, wasmtest.I32Add, wasmtest.Call(status),
			wasmtest.I32(1), wasmtest.MemoryGrow, wasmtest.Drop)
	}, false},
	{"a table", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		m.FuncTable(1)
		// 201 less 1 if the entry is null, as it is at first; then it is set.
		handler(m, wasmtest.I32(201), wasmtest.I32(0), op(0x25, 0), op(0xd1), op(0x6b), wasmtest.Call(status),
			wasmtest.I32(0), op(0xd2, 0), op(0x26, 0))
	}, false},
	{"the size of a table", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		m.FuncTable(1)
		handler(m, wasmtest.I32(199), op(0xfc, 16, 0), wasmtest.I32Add, wasmtest.Call(status),
			op(0xd0, 0x70), wasmtest.I32(1), op(0xfc, 15, 0), wasmtest.Drop)
	}, false},
	{"a dropped data segment", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		// memory.init traps once the segment is gone.
		handler(m, wasmtest.I32(200), wasmtest.Call(status),
			wasmtest.I32(40000), wasmtest.I32(0), wasmtest.I32(1), op(0xfc, 8, 0, 0), op(0xfc, 9, 0))
	}, false},
	{"a dropped element segment", func(m *wasmtest.Module, status uint32) {
		m.Memory(1, 1)
		m.FuncTable(1)
		handler(m, wasmtest.I32(200), wasmtest.Call(status),
			wasmtest.I32(0), wasmtest.I32(0), wasmtest.I32(1), op(0xfc, 12, 0, 0), op(0xfc, 13, 0))
	}, false},
}

// handler adds handle_request, which answers the request itself.
func handler(m *wasmtest.Module, code ...[]byte) {
	m.Export("handle_request", wasmtest.Func, m.Func("", "I", slices.Concat(code...), wasmtest.I64(0)))
}

func TestNoKindOfStateOutlivesARequest(t *testing.T) {
	for _, row := range stickies {
		t.Run(row.name, func(t *testing.T) {
			var m wasmtest.Module
			row.build(&m, m.Import("http_handler", "set_status_code", "i", ""))
			code := m.Bytes()
			switch {
			case strings.Contains(row.name, "a table"): // ref.func wants its function declared
				code = beforeCode(code, 9, 5, 1, 3, 0, 1, 0)
			case strings.Contains(row.name, "data"): // a passive segment of one byte, and the count of segments
				code = append(beforeCode(code, 12, 1, 1), 11, 4, 1, 1, 1, 'x')
			case strings.Contains(row.name, "element"): // a passive segment of function 0
				code = beforeCode(code, 9, 5, 1, 1, 0, 1, 0)
			}
			s := newServer(t, code, serve.HTTP, func(c *serve.Config) { c.Limits.Instances = 1 })
			for range 5 {
				s.expect("/", 200, "")
			}
			if idle := s.Stats().Idle; (idle == 1) != row.reuse {
				t.Errorf("got %d idle instances, want one: %v", idle, row.reuse)
			}
		})
	}
}

// beforeCode adds a section before that of the code.
func beforeCode(code []byte, section ...byte) []byte {
	at := 8
	for code[at] != 10 {
		at += 2 + int(code[at+1]) // sections here are shorter than 128 bytes
	}
	return slices.Insert(slices.Clone(code), at, section...)
}

func TestRequestsAtOnceDoNotSeeEachOther(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.Instances = 4 })
	t.Run("group", func(t *testing.T) {
		for range 8 {
			t.Run("client", func(t *testing.T) {
				t.Parallel()
				for _, path := range []string{"/", "/set", "/missing", "/"} {
					if a := s.get(path); !strings.Contains(a.body, "count=1 seen=1 env=false") {
						t.Errorf("%s: got %d %q", path, a.status, a.body)
					}
				}
			})
		}
	})
}

func TestACGIProgramBeginsEveryRequestAfresh(t *testing.T) {
	for name, code := range map[string]func() []byte{
		"go": func() []byte { return goGuest(t, "program") },
		"c":  func() []byte { return cGuest(t, "program") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, code(), serve.CGI, nil)
			for range 5 {
				if a := s.get("/?a=b"); !strings.HasPrefix(a.body, "count=1 query=a=b") {
					t.Errorf("got %d %q", a.status, a.body)
				}
			}
		})
	}
}
