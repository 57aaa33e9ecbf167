package rewrite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/rewrite"
)

// script is one file of the WebAssembly test suite, as wast2json writes it.
type script struct {
	Commands []command `json:"commands"`
}

type command struct {
	Type     string `json:"type"`
	Line     int    `json:"line"`
	Filename string `json:"filename"`
	Name     string `json:"name"`
	As       string `json:"as"`
	Action   action `json:"action"`
}

type action struct {
	Type   string  `json:"type"`
	Module string  `json:"module"`
	Field  string  `json:"field"`
	Args   []value `json:"args"`
}

type value struct {
	Type  string          `json:"type"`
	Lane  string          `json:"lane_type"`
	Value json.RawMessage `json:"value"`
}

// world is one of two that run the same script: with the modules as they are,
// and rewritten.
type world struct {
	rt      wazero.Runtime
	rewrite bool
	last    api.Module
	named   map[string]api.Module
	ticks   int
}

func newWorld(t *testing.T, config wazero.RuntimeConfig, spectest []byte, rewritten bool) *world {
	ctx := context.Background()
	w := &world{rewrite: rewritten, named: map[string]api.Module{}}
	w.rt = wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features))
	t.Cleanup(func() { w.rt.Close(ctx) })
	host(t, w.rt, &w.ticks)
	if _, err := w.rt.InstantiateWithConfig(ctx, spectest, wazero.NewModuleConfig().WithName("spectest")); err != nil {
		t.Fatal(err)
	}
	return w
}

// instantiate returns what a guest could tell of an attempt, not its words.
func (w *world) instantiate(code []byte, name, register string) string {
	if w.rewrite {
		var err error
		if code, err = rewrite.Rewrite(code, rewrite.Limits{Exceptions: true, CallStack: 4 << 20}); err != nil {
			return "refused"
		}
	}
	ctx := context.Background()
	m, err := w.rt.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName(register).WithStartFunctions())
	if err != nil {
		return "not instantiated"
	}
	w.last = m
	if name != "" {
		w.named[name] = m
	}
	return "instantiated"
}

func (w *world) module(name string) api.Module {
	if name == "" {
		return w.last
	}
	return w.named[name]
}

// invoke returns results or the trap in one text.
func (w *world) invoke(a action, args []uint64) string {
	m := w.module(a.Module)
	if m == nil || m.ExportedFunction(a.Field) == nil {
		return "no such function"
	}
	f := m.ExportedFunction(a.Field)
	results, err := f.Call(context.Background(), args...)
	if err == nil {
		for i, t := range f.Definition().ResultTypes() {
			if t == api.ValueTypeExternref || t == 0x70 {
				results[i] = min(results[i], 1) // an address, or null
			}
		}
		return fmt.Sprint(results)
	}
	if _, exit := err.(*sys.ExitError); exit {
		return "closed"
	}
	reason, _, _ := strings.Cut(err.Error(), "\nwasm stack trace:")
	return calm(reason)
}

// calm says the same of both ends of a deep recursion: ours is an unreachable.
func calm(reason string) string {
	if reason == "wasm error: unreachable" {
		return "stack overflow"
	}
	return strings.TrimPrefix(reason, "wasm error: ")
}

// arguments turns the values of a script into wazero's.
func arguments(values []value) (list []uint64, ok bool) {
	for _, v := range values {
		var one string
		var lanes []string
		if json.Unmarshal(v.Value, &one) == nil {
			lanes = []string{one}
		} else if json.Unmarshal(v.Value, &lanes) != nil {
			return nil, false
		}
		width := 64 / max(1, len(lanes)/2)
		words := make([]uint64, max(1, len(lanes)*width/64))
		for i, lane := range lanes {
			var n uint64
			switch {
			case lane == "null":
			case strings.HasPrefix(lane, "nan"):
				return nil, false
			case strings.HasPrefix(lane, "-"):
				signed, _ := strconv.ParseInt(lane, 10, 64)
				n = uint64(signed)
			default:
				n, _ = strconv.ParseUint(lane, 10, 64)
			}
			if width < 64 {
				n &= 1<<width - 1
			}
			words[i*width/64] |= n << (i * width % 64)
		}
		list = append(list, words...)
	}
	return list, true
}

func TestTheWebAssemblyTestSuiteRunsTheSameWhenRewritten(t *testing.T) {
	files := wazeroFiles(t, "internal/integration_test/spectest", ".json")
	for name, config := range engines {
		if testing.Short() && name == "interpreter" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compared := 0
			for _, path := range files {
				compared += compare(t, config(), path)
			}
			t.Logf("%d actions of %d scripts", compared, len(files))
		})
	}
}

func compare(t *testing.T, config wazero.RuntimeConfig, path string) (compared int) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	suite := filepath.Dir(filepath.Dir(filepath.Dir(path)))
	spectest, err := os.ReadFile(filepath.Join(suite, "testdata", "spectest.wasm"))
	if err != nil {
		t.Skip("the module that the suite imports is not here: ", err)
	}
	original, rewritten := newWorld(t, config, spectest, false), newWorld(t, config, spectest, true)
	defer original.rt.Close(context.Background())
	defer rewritten.rt.Close(context.Background())
	for i, c := range s.Commands {
		var got, want string
		switch c.Type {
		case "module", "assert_uninstantiable":
			code, err := os.ReadFile(filepath.Join(filepath.Dir(path), c.Filename))
			if err != nil {
				continue
			}
			register := registered(s.Commands[i+1:], c.Name)
			if got = rewritten.instantiate(code, c.Name, register); got == "refused" {
				return compared // by name: another test counts those
			}
			want = original.instantiate(code, c.Name, register)
		case "assert_return", "assert_trap", "assert_exhaustion", "assert_exception", "action":
			args, ok := arguments(c.Action.Args)
			if c.Action.Type != "invoke" || !ok {
				continue
			}
			want, got = original.invoke(c.Action, args), rewritten.invoke(c.Action, args)
			compared++
		}
		if got != want {
			t.Errorf("%s line %d %s: got %s, want %s", filepath.Base(path), c.Line, c.Action.Field, got, want)
		}
	}
	return compared
}

// registered is the name under which the commands that follow make a module
// known to others: wazero takes it at instantiation.
func registered(following []command, name string) string {
	for _, c := range following {
		switch {
		case c.Type == "module" && name == "":
			return ""
		case c.Type == "register" && c.Name == name:
			return c.As
		}
	}
	return ""
}
