package cmd

import (
	"context"
	"os"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// Exit codes of a run that was ended from outside, as a shell shows a process
// that a signal ended: 128 and the signal's number.
const (
	interruptedCode = 130 // SIGINT, which is Ctrl-C
	terminatedCode  = 143 // SIGTERM, as a service manager sends
)

// signalCode is the exit code for the signal that ended ctx.
func signalCode(ctx context.Context) int {
	// signal.NotifyContext gives a cause that says which signal it was, and says
	// it in text alone.
	if cause := context.Cause(ctx); cause != nil && strings.HasPrefix(cause.Error(), syscall.SIGTERM.String()) {
		return terminatedCode
	}
	return interruptedCode
}

// terminals are those of our streams that are a terminal.
func (a *app) terminals() (is [3]bool) {
	for i, stream := range []any{a.in, a.out, a.err} {
		f, ok := stream.(*os.File)
		is[i] = ok && term.IsTerminal(int(f.Fd()))
	}
	return is
}
