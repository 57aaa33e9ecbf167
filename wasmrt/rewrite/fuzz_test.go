package rewrite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

// seeds are modules of every kind, small ones first.
func seeds(f *testing.F) {
	for _, e := range escapes {
		var m wasmtest.Module
		m.MutableI64(0)
		m.Export("run", wasmtest.Func, e.build(&m))
		if code := m.Bytes(); len(code) < 4096 {
			f.Add(code)
		}
	}
	f.Add([]byte{})
	f.Add(raw([]byte{0, 4, 'n', 'a', 'm', 'e', 1, 4, 1, 0, 1, 'f'}))
	if testing.Short() {
		return
	}
	for i, path := range wazeroFiles(f, "internal/integration_test", ".wasm") {
		if code, err := os.ReadFile(path); err == nil && i%16 == 0 && len(code) < 4096 {
			f.Add(code)
		}
	}
}

func FuzzRewriteNeverPanics(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, code []byte) {
		before := bytes.Clone(code)
		for _, limits := range []rewrite.Limits{{}, {Exceptions: true, CallStack: 1 << 16}} {
			out, err := rewrite.Rewrite(code, limits)
			_, malformed := errors.AsType[*rewrite.Error](err)
			_, unsupported := errors.AsType[*rewrite.UnsupportedFeatureError](err)
			if err != nil && !malformed && !unsupported {
				t.Errorf("got %T, want an error of ours", err)
			}
			if most := 64*len(code) + 4096; len(out) > most {
				t.Errorf("%d bytes became %d, want at most %d", len(code), len(out), most)
			}
		}
		if !bytes.Equal(code, before) {
			t.Error("the input was written to")
		}
	})
}

func FuzzRewrittenValidatesWhenOriginalDoes(f *testing.F) {
	seeds(f)
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	f.Cleanup(func() { rt.Close(ctx) })
	f.Fuzz(func(t *testing.T, code []byte) {
		out, err := rewrite.Rewrite(code, rewrite.Limits{Exceptions: true, CallStack: 1 << 16})
		if err != nil {
			return // and the oracle need not see what could end it
		}
		original, err := rt.CompileModule(ctx, withoutCustom(code))
		if err != nil {
			return
		}
		original.Close(ctx)
		rewritten, err := rt.CompileModule(ctx, out)
		if err != nil {
			t.Fatalf("the original compiles, the rewritten does not: %v", err)
		}
		rewritten.Close(ctx)
	})
}

// withoutCustom leaves out the custom sections of a module that was rewritten:
// wazero believes the lengths of names, and lies end the process. The rewriter
// leaves out those that lie.
func withoutCustom(code []byte) []byte {
	out := bytes.Clone(code[:8])
	for at := 8; at < len(code); {
		size, n := binary.Uvarint(code[at+1:])
		end := at + 1 + n + int(size)
		if code[at] != 0 {
			out = append(out, code[at:end]...)
		}
		at = end
	}
	return out
}
