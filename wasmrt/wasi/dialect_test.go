package wasi

import (
	"context"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// A module that links wasi-libc's accept with WasmEdge's version 1 wants one
// name with two types, which no host module can have.
func TestANameInTwoDialectsIsRefusedWithTheWayOut(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	accept := func(params string) Import {
		return Import{Module: ModuleName, Name: "sock_accept", Params: function{params: params}.types(), Results: []api.ValueType{api.ValueTypeI32}}
	}
	err := Instantiate(ctx, rt, []Import{accept("iii"), accept("iii"), accept("ii")})
	if err == nil || !strings.Contains(err.Error(), "sock_accept_v2") {
		t.Errorf("got %v, want an error that names sock_accept_v2", err)
	}
}
