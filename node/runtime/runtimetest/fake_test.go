package runtimetest_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"copepod/node/runtime"
	"copepod/node/runtime/runtimetest"
)

func TestFakeIsARuntime(t *testing.T) {
	runtimetest.Run(t, runtimetest.Subject{Runtime: runtimetest.NewFake(runtimetest.Programs()), Image: runtimetest.GuestImage})
}

func ExampleFake() {
	ctx := context.Background()
	rt := runtimetest.NewFake(map[string]runtimetest.Guest{"hello:v1": func(_ context.Context, p runtimetest.Process) int {
		_, _ = fmt.Fprintln(p.Stdout, "hello", p.Argv[0])
		return 7
	}})
	image, _ := rt.Image(ctx, "hello:v1")
	c, _ := rt.Create(ctx, runtime.Spec{Image: image, Args: []string{"world"}, Stdout: os.Stdout})
	_ = c.Start(ctx)
	<-c.Done()
	fmt.Println(c.Exit().Code, c.Exit().Reason)
	// Output:
	// hello world
	// 7 Error
}
