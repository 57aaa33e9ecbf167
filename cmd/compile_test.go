package cmd

import (
	"fmt"
	"os"
	"testing"
)

// TestMain is the compiler where a test's machine or run starts one: that is
// this program, with the verb.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compileVerb {
		os.Exit(compileModule(os.Args[2:]))
	}
	if err := prepareCompiler(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestTheCompilersVerbIsHiddenAndSaysWhatItIsFor(t *testing.T) {
	code, _, errs := command(t, compileVerb)
	if code == 0 || errs == "" {
		t.Errorf("without arguments: code %d, error %q", code, errs)
	}
}
