package httpwasm

import (
	"context"
	"net/http"
	"sync/atomic"

	"copepod/wasmrt/wasi"
)

// Config is what all requests of a guest have in common. The zero value works.
type Config struct {
	Guest []byte                            // what get_config gives
	Log   func(level Level, message string) // nil: messages go nowhere

	MaxHead   int64 // bytes of headers that a guest may set for one request; 0: 256 KiB
	MaxBuffer int64 // bytes of a body that is buffered because the guest asked; 0: 1 MiB
}

// Level is how much a message matters.
type Level int32

// The levels of the ABI.
const (
	Debug Level = iota - 1
	Info
	Warn
	Error
	None
)

func (l Level) String() string {
	switch l {
	case Debug:
		return "debug"
	case Info:
		return "info"
	case Warn:
		return "warn"
	}
	return "error"
}

// Features of the ABI that a guest asks for.
const (
	bufferRequest  = 1 << iota // the request's body may be read twice
	bufferResponse             // the response is held back until it is complete
	trailers

	supported = bufferRequest | bufferResponse | trailers
)

// Setup is a guest that initialises: features that it enables then hold for all
// its requests. It is safe from any goroutine.
type Setup struct {
	cfg      Config
	features atomic.Uint32
}

// NewSetup makes a Setup.
func NewSetup(cfg Config) *Setup {
	if cfg.MaxHead <= 0 {
		cfg.MaxHead = 256 << 10
	}
	if cfg.MaxBuffer <= 0 {
		cfg.MaxBuffer = 1 << 20
	}
	return &Setup{cfg: cfg}
}

// Context returns ctx with the setup in it, for calls of the guest outside of
// requests.
func (s *Setup) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, s)
}

// Exchange begins a request. The meter is told when the guest waits for the
// client; it may be nil.
func (s *Setup) Exchange(w http.ResponseWriter, r *http.Request, meter wasi.Meter) *Exchange {
	return &Exchange{
		setup: s, writer: w, request: r, meter: meter,
		method: r.Method, uri: uriOf(r), status: http.StatusOK, features: s.features.Load(),
	}
}

// uriOf is the path and the query, encoded as they came.
func uriOf(r *http.Request) string {
	if uri := r.URL.RequestURI(); uri != "" {
		return uri
	}
	return "/"
}

func (s *Setup) enableFeatures(c frame) {
	s.features.Or(c.u32(0) & supported)
	c.answer(supported)
}

func (s *Setup) getConfig(c frame) { c.put(0, string(s.cfg.Guest)) }

func (s *Setup) logEnabled(c frame) {
	level := Level(int32(c.u32(0)))
	if s.cfg.Log != nil && level >= Info && level < None {
		c.answer(1)
	} else {
		c.answer(0)
	}
}

// log shortens what is too long: a message that cannot be logged is no fault.
func (s *Setup) log(c frame) {
	level := Level(int32(c.u32(0)))
	if s.cfg.Log == nil || level < Info || level >= None {
		return
	}
	c.stack[2] = min(c.stack[2], maxText)
	s.cfg.Log(level, string(c.bytes(1)))
}
