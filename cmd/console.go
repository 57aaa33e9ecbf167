package cmd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// console tells a person what has started and how long it took.
type console struct {
	mu    sync.Mutex
	out   io.Writer
	plain bool // no colour
}

func newConsole(out io.Writer) *console {
	f, ok := out.(*os.File)
	return &console{out: out, plain: !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != ""}
}

// done prints one finished step.
func (c *console) done(what string, took time.Duration, detail string) {
	c.line("%s %-16s %s%7s%s  %s\n", c.paint(green, "✓"), what, c.code(faint), tookText(took), c.code(reset), detail)
}

// warn prints what did not go well and stops nothing.
func (c *console) warn(what, detail string) {
	c.line("%s %-16s %7s  %s\n", c.paint(yellow, "!"), what, "", detail)
}

func (c *console) line(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.out, format, args...)
}

// Codes of ECMA-48.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

func (c *console) code(code string) string {
	if c.plain {
		return ""
	}
	return code
}

func (c *console) paint(code, s string) string { return c.code(code) + s + c.code(reset) }

func tookText(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
