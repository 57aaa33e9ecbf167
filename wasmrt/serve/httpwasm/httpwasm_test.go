package httpwasm

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/wazerotest"

	"copepod/wasmrt/wasi"
)

// guest is a caller of the ABI: it has memory, and puts texts into it.
type guest struct {
	t        *testing.T
	memory   api.Memory
	next     uint32
	exchange *Exchange
	w        *httptest.ResponseRecorder
}

func newGuest(t *testing.T, cfg Config, r *http.Request) *guest {
	w := httptest.NewRecorder()
	return &guest{t: t, memory: wazerotest.NewFixedMemory(1 << 20), next: 1024, exchange: NewSetup(cfg).Exchange(w, r, nil), w: w}
}

// text is the pointer and the length of a text in the guest's memory.
func (g *guest) text(s string) []uint64 {
	at := g.next
	g.next += uint32(len(s)) + 8
	g.memory.WriteString(at, s)
	return []uint64{uint64(at), uint64(len(s))}
}

func (g *guest) call(name string, args ...uint64) (result uint64, fault string) {
	defer func() {
		if p := recover(); p != nil {
			fault = p.(*Misuse).Error()
		}
	}()
	stack := append(args, make([]uint64, 1)...)
	functions[name].call(g.exchange, frame{name: name, memory: g.memory, stack: stack})
	return stack[0], ""
}

// must is call, and fails the test on a trap.
func (g *guest) must(name string, args ...uint64) uint64 {
	g.t.Helper()
	v, fault := g.call(name, args...)
	if fault != "" {
		g.t.Fatal(fault)
	}
	return v
}

// faults is call that has to end in a trap.
func (g *guest) faults(want, name string, args ...uint64) {
	g.t.Helper()
	if _, fault := g.call(name, args...); !strings.Contains(fault, want) {
		g.t.Errorf("%s: got %q, want a trap with %q", name, fault, want)
	}
}

func (g *guest) read(n uint64) string {
	b, _ := g.memory.Read(0, uint32(n))
	return string(b)
}

func args(first uint64, more ...[]uint64) []uint64 {
	list := []uint64{first}
	for _, m := range more {
		list = append(list, m...)
	}
	return list
}

var room = []uint64{0, 1024}

func TestTheRequestIsWhatTheClientSent(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/a%20b?c=d", strings.NewReader("hello"))
	r.Host, r.RemoteAddr = "example.com", "192.0.2.1:9"
	r.Header = http.Header{"X-Many": {"one", "two"}}
	g := newGuest(t, Config{Guest: []byte("configured")}, r)
	for name, want := range map[string]string{
		"get_method": "POST", "get_uri": "/a%20b?c=d", "get_protocol_version": "HTTP/1.1",
		"get_source_addr": "192.0.2.1:9", "get_config": "configured",
	} {
		if n := g.must(name, room...); g.read(n) != want {
			t.Errorf("%s: got %q, want %q", name, g.read(n), want)
		}
		g.memory.Write(0, make([]byte, 64))
		if n := g.must(name, 0, 2); n != uint64(len(want)) || g.read(2) != "\x00\x00" {
			t.Errorf("%s without room: got %d and wrote %q", name, n, g.read(2))
		}
	}
	if n := g.must("get_header_names", args(requestHeader, room)...); n>>32 != 2 || g.read(uint64(uint32(n))) != "host\x00x-many\x00" {
		t.Errorf("names: got %#x %q", n, g.read(uint64(uint32(n))))
	}
	if n := g.must("get_header_values", args(requestHeader, g.text("x-MANY"), room)...); n>>32 != 2 || g.read(uint64(uint32(n))) != "one\x00two\x00" {
		t.Errorf("values: got %#x", n)
	}
	if n := g.must("get_header_values", args(requestHeader, g.text("none"), room)...); n != 0 {
		t.Errorf("no values: got %#x", n)
	}
	if n := g.must("read_body", args(requestBody, []uint64{0, 3})...); g.read(3) != "hel" || uint32(n) != 3 {
		t.Errorf("body: got %#x %q", n, g.read(3))
	}
	g.must("read_body", args(requestBody, room)...)
	if n := g.must("read_body", args(requestBody, room)...); n != 1<<32 {
		t.Errorf("the end of the body: got %#x", n)
	}
}

func TestTheResponseIsWhatTheGuestMade(t *testing.T) {
	g := newGuest(t, Config{}, httptest.NewRequest(http.MethodGet, "/", nil))
	g.must("set_status_code", 418)
	g.must("set_header_value", args(responseHeader, g.text("X-A"), g.text("old"))...)
	g.must("set_header_value", args(responseHeader, g.text("X-A"), g.text("1"))...)
	g.must("add_header_value", args(responseHeader, g.text("X-A"), g.text("2"))...)
	g.must("set_header_value", args(responseHeader, g.text("X-B"), g.text("3"))...)
	g.must("remove_header", args(responseHeader, g.text("X-B"))...)
	g.must("write_body", args(responseBody, g.text("short and "))...)
	g.must("write_body", args(responseBody, g.text("stout"))...)
	g.faults("the head of the response has been sent", "set_status_code", 200)
	if g.exchange.Next(0) {
		t.Error("it was passed on")
	}
	if err := g.exchange.Finish(); err != nil {
		t.Fatal(err)
	}
	got := g.w.Result()
	if b, _ := io.ReadAll(got.Body); got.StatusCode != 418 || string(b) != "short and stout" ||
		strings.Join(got.Header["X-A"], ",") != "1,2" || got.Header.Get("X-B") != "" {
		t.Errorf("got %d %v %q", got.StatusCode, got.Header, b)
	}
}

func TestABufferedResponseCanBeChangedToTheEnd(t *testing.T) {
	g := newGuest(t, Config{MaxBuffer: 10}, httptest.NewRequest(http.MethodGet, "/", nil))
	if n := g.must("enable_features", bufferResponse); n != supported {
		t.Errorf("got features %#x", n)
	}
	g.must("write_body", args(responseBody, g.text("forgotten"))...)
	if !g.exchange.Next(1) || g.must("get_status_code") != 404 {
		t.Error("a request that is passed on finds nobody")
	}
	g.must("set_status_code", 200)
	g.must("write_body", args(responseBody, g.text("new"))...)
	g.faults("more than 10 bytes to buffer", "write_body", args(responseBody, g.text("too long"))...)
	if err := g.exchange.Finish(); err != nil {
		t.Fatal(err)
	}
	if g.w.Code != 200 || g.w.Body.String() != "new" {
		t.Errorf("got %d %q", g.w.Code, g.w.Body)
	}
}

func TestMisuseIsATrapThatSaysWhatWasWrong(t *testing.T) {
	g := newGuest(t, Config{MaxHead: 200}, httptest.NewRequest(http.MethodGet, "/", nil))
	outside := []uint64{1<<20 - 1, 5}
	g.faults("not all in memory", "write_body", args(responseBody, outside)...)
	g.faults("not all in memory", "get_header_values", args(requestHeader, outside, room)...)
	g.faults("not all in memory", "get_uri", 1<<32-1, 1<<32-1)
	g.faults("no room", "read_body", requestBody, 0, 0)
	g.faults("kind 9", "read_body", args(9, room)...)
	g.faults("kind 9", "write_body", args(9, g.text("x"))...)
	g.faults("kind 9", "get_header_names", args(9, room)...)
	g.faults("kind 9", "set_header_value", args(9, g.text("a"), g.text("b"))...)
	g.faults("not a name", "set_header_value", args(responseHeader, g.text("a b"), g.text("c"))...)
	g.faults("not a name", "get_header_values", args(requestHeader, g.text(""), room)...)
	g.faults("control character", "add_header_value", args(responseHeader, g.text("a"), g.text("b\r\nc: d"))...)
	g.faults("trailers are not enabled", "set_header_value", args(responseTrailer, g.text("a"), g.text("b"))...)
	g.faults("not the status", "set_status_code", 100)
	g.faults("not a method", "set_method", g.text("G T")...)
	g.faults("65536 are allowed", "set_uri", 0, 65537)
	for range 5 {
		g.call("add_header_value", args(responseHeader, g.text("a"), g.text("b"))...)
	}
	g.faults("more than 200 bytes of headers", "add_header_value", args(responseHeader, g.text("a"), g.text("b"))...)
	if g.exchange.Next(1) {
		g.faults("passed on already", "set_method", g.text("GET")...)
		g.faults("passed on already", "set_header_value", args(requestHeader, g.text("a"), g.text("b"))...)
	}
}

func TestAChangedRequestReadsAsItWasChanged(t *testing.T) {
	g := newGuest(t, Config{}, httptest.NewRequest(http.MethodGet, "/old?a=b", nil))
	g.must("set_method", g.text("PATCH")...)
	g.must("set_uri", g.text("/new")...)
	g.must("set_header_value", args(requestHeader, g.text("host"), g.text("other"))...)
	g.must("write_body", args(requestBody, g.text("other body"))...)
	for name, want := range map[string]string{"get_method": "PATCH", "get_uri": "/new"} {
		if n := g.must(name, room...); g.read(n) != want {
			t.Errorf("%s: got %q", name, g.read(n))
		}
	}
	if n := g.must("get_header_values", args(requestHeader, g.text("Host"), room)...); g.read(uint64(uint32(n))) != "other\x00" {
		t.Errorf("host: got %#x", n)
	}
	if n := g.must("read_body", args(requestBody, room)...); g.read(uint64(uint32(n))) != "other body" {
		t.Errorf("body: got %#x", n)
	}
}

func TestTrailersFollowTheBody(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := newGuest(t, Config{}, r)
		g.exchange.writer = w
		g.must("enable_features", trailers)
		g.must("write_body", args(responseBody, g.text("body"))...)
		g.must("set_header_value", args(responseTrailer, g.text("X-Sum"), g.text("7"))...)
		if err := g.exchange.Finish(); err != nil {
			t.Error(err)
		}
	}))
	defer web.Close()
	resp, err := web.Client().Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "body" || err != nil || resp.Trailer.Get("X-Sum") != "7" {
		t.Errorf("got %q, %v, trailer %v", b, err, resp.Trailer)
	}
}

func TestMessagesCarryTheirLevel(t *testing.T) {
	var got []string
	g := newGuest(t, Config{Log: func(l Level, m string) { got = append(got, l.String()+" "+m) }}, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, level := range []Level{Debug, Info, Warn, Error, None} {
		enabled := g.must("log_enabled", uint64(uint32(level)))
		if (enabled == 1) != (level >= Info && level <= Error) {
			t.Errorf("level %d: got enabled %d", level, enabled)
		}
		g.must("log", args(uint64(uint32(level)), g.text("hi"))...)
	}
	if strings.Join(got, ",") != "info hi,warn hi,error hi" {
		t.Errorf("got %q", got)
	}
}

func TestOnlyTheABIsOwnTypesAreProvided(t *testing.T) {
	i32 := api.ValueTypeI32
	right := wasi.Import{Module: ModuleName, Name: "get_uri", Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32}}
	if !Provides(right) || !Knows(ModuleName, "get_uri") {
		t.Error("get_uri is not provided")
	}
	wrong := right
	wrong.Results = nil
	other := right
	other.Module = "env"
	if Provides(wrong) || Provides(other) || Knows("env", "get_uri") {
		t.Error("it is provided with any types, or by any module")
	}
}
