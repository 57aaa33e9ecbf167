package rewrite_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"copepod/wasmrt/rewrite"
)

// features are all that the rewriter lets pass, exceptions included.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling

// engines are the two ways that wazero runs a module.
var engines = map[string]func() wazero.RuntimeConfig{
	"compiler":    wazero.NewRuntimeConfigCompiler,
	"interpreter": wazero.NewRuntimeConfigInterpreter,
}

// wazeroFiles are the modules that wazero is tested with, where its source is.
func wazeroFiles(t testing.TB, under, extension string) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Skip("wazero's source is not here: ", err)
	}
	var list []string
	filepath.WalkDir(filepath.Join(strings.TrimSpace(string(dir)), under), func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == extension {
			list = append(list, path)
		}
		return nil
	})
	if len(list) == 0 {
		t.Skip("wazero's source has no ", extension, " files")
	}
	return list
}

func TestEveryModuleThatCompilesStillDoesWhenRewritten(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer rt.Close(ctx)
	compiles := func(code []byte) error {
		m, err := rt.CompileModule(ctx, code)
		if err == nil {
			m.Close(ctx)
		}
		return err
	}
	passed, refused := 0, map[string]int{}
	for _, path := range wazeroFiles(t, ".", ".wasm") {
		code, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, limits := range []rewrite.Limits{{Exceptions: true}, {Exceptions: true, CallStack: 1 << 20}} {
			original := compiles(code)
			out, err := rewrite.Rewrite(code, limits)
			unsupported, feature := errors.AsType[*rewrite.UnsupportedFeatureError](err)
			switch {
			case feature && original == nil:
				refused[unsupported.Feature]++
			case err != nil && original == nil:
				t.Errorf("%s: compiles, but %v", path, err)
			case err == nil && original == nil:
				passed++
				if err := compiles(out); err != nil {
					t.Errorf("%s: compiles, but rewritten: %v", path, err)
				}
			case err == nil:
				if compiles(out) == nil {
					t.Errorf("%s: compiles only when rewritten: %v", path, original)
				}
			}
		}
	}
	t.Logf("%d passed, refused %v", passed, refused)
}
