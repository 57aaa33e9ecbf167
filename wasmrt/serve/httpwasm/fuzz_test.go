package httpwasm

import (
	"encoding/binary"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/experimental/wazerotest"
)

// FuzzCalls has a guest call whatever it likes, with any pointers and lengths,
// while it initialises and while it handles a request. It may end in a Misuse and
// in nothing else, and what it puts into the response must be a response.
func FuzzCalls(f *testing.F) {
	names := slices.Sorted(maps.Keys(functions))
	script := func(name string, args ...uint32) []byte {
		b := []byte{byte(slices.Index(names, name))}
		for _, a := range args {
			b = binary.LittleEndian.AppendUint32(b, a)
		}
		return b
	}
	const end = 1 << 16 // of the memory
	f.Add([]byte("name: value"), script("set_header_value", 1, 0, 4, 6, 5))
	f.Add([]byte("name: value"), slices.Concat(script("enable_features", 7), script("write_body", 1, 0, 11), script("add_header_value", 2, 0, 4, 6, 5)))
	f.Add([]byte(nil), script("get_uri", end-3, 4))
	f.Add([]byte(nil), script("read_body", 0, end-1, 1<<31))
	f.Add([]byte(nil), script("log", 0, 1<<32-1, 1<<32-1))
	f.Add([]byte("host"), script("get_header_values", 0, 0, 4, end-2, 1<<20))
	f.Add([]byte("\r\nx"), script("set_uri", 0, 1<<32-1))
	f.Fuzz(func(t *testing.T, memory, script []byte) {
		r := httptest.NewRequest(http.MethodPost, "/path?query", strings.NewReader("a body"))
		r.Header.Set("Name", "value")
		w := httptest.NewRecorder()
		setup := NewSetup(Config{Guest: []byte("config"), Log: func(Level, string) {}, MaxBuffer: 1 << 10, MaxHead: 1 << 10})
		exchange := setup.Exchange(w, r, nil)
		room := wazerotest.NewFixedMemory(end)
		room.Write(0, memory[:min(len(memory), end)])
		initialising := len(script)%2 == 1
		for calls := 0; len(script) > 0 && calls < 16; calls++ {
			name := names[int(script[0])%len(names)]
			script = script[1:]
			stack := make([]uint64, max(len(functions[name].params), 1))
			for i := range functions[name].params {
				var b [4]byte
				script = script[copy(b[:], script):]
				stack[i] = uint64(binary.LittleEndian.Uint32(b[:]))
			}
			if initialising && functions[name].setup != nil {
				survives(t, func() { functions[name].setup(setup, frame{name: name, memory: room, stack: stack}) })
			} else if !survives(t, func() { functions[name].call(exchange, frame{name: name, memory: room, stack: stack}) }) {
				return
			}
		}
		if err := exchange.Finish(); err != nil {
			return
		}
		answer := w.Result()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Error(err)
		}
		for name, values := range answer.Header {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("header %q: %q", name, values)
			}
		}
	})
}

// survives reports whether a call returned.
func survives(t *testing.T, call func()) (alive bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(*Misuse); !ok {
				t.Fatalf("panic: %v", p)
			}
			alive = false
		}
	}()
	call()
	return true
}
