package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"copepod/node/logs"
)

var pod = logs.Pod{Namespace: "default", Name: "web", UID: "u1"}

func open(t testing.TB, cfg logs.Config) (*logs.Store, *logs.Writer) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := logs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Writer(pod, "app", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return s, w
}

func write(t testing.TB, w *logs.Writer, text string) {
	t.Helper()
	if _, err := w.Stdout().Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s *logs.Store, opts logs.Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Read(t.Context(), &out, pod, "app", 0, opts); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func tail(n int64) *int64 { return &n }

func TestTheFileIsInTheFormatOfTheContainerRuntimeInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands at 2000-01-01
		dir := t.TempDir()
		_, w := open(t, logs.Config{Dir: dir, MaxLine: 64})
		write(t, w, "one\ntw")
		_, _ = w.Stderr().Write([]byte("err\n"))
		write(t, w, "o\n"+strings.Repeat("x", 70)+"\nlast")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "default_web_u1", "app", "0.log"))
		if err != nil {
			t.Fatal(err)
		}
		const at = "2000-01-01T00:00:00.000000000Z "
		want := at + "stdout F one\n" + at + "stderr F err\n" + at + "stdout F two\n" +
			at + "stdout P " + strings.Repeat("x", 64) + "\n" + at + "stdout F xxxxxx\n" + at + "stdout F last\n"
		if string(got) != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

func TestReadGivesWhatWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := open(t, logs.Config{MaxLine: 64})
		write(t, w, "a\nb\n")
		time.Sleep(10 * time.Second)
		_, _ = w.Stderr().Write([]byte("c\n"))
		long := strings.Repeat("y", 100)
		write(t, w, long+"\n")
		const first, then = "2000-01-01T00:00:00Z ", "2000-01-01T00:00:10Z "
		for _, row := range []struct {
			name string
			opts logs.Options
			want string
		}{
			{"everything", logs.Options{}, "a\nb\nc\n" + long + "\n"},
			{"the last two lines of the file", logs.Options{Tail: tail(2)}, long + "\n"},
			{"the last three lines of the file", logs.Options{Tail: tail(3)}, "c\n" + long + "\n"},
			{"more lines than there are", logs.Options{Tail: tail(99)}, "a\nb\nc\n" + long + "\n"},
			{"no lines", logs.Options{Tail: tail(0)}, ""},
			{"since", logs.Options{Since: time.Now().Add(-time.Second)}, "c\n" + long + "\n"},
			{"with times, once for a line in parts", logs.Options{Timestamps: true}, first + "a\n" + first + "b\n" + then + "c\n" + then + long + "\n"},
			{"so many bytes", logs.Options{Limit: 3}, "a\nb"},
			{"one stream", logs.Options{Stream: logs.Stderr}, "c\n"},
		} {
			if got := read(t, s, row.opts); got != row.want {
				t.Errorf("%s: got %q, want %q", row.name, got, row.want)
			}
		}
	})
}

func TestFilesRotateBySizeAndOldOnesGo(t *testing.T) {
	dir := t.TempDir()
	s, w := open(t, logs.Config{Dir: dir, MaxSize: 100, MaxFiles: 3})
	for i := range 20 {
		write(t, w, fmt.Sprintf("line %02d\n", i)) // three lines a file
	}
	entries, err := os.ReadDir(filepath.Join(dir, "default_web_u1", "app"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("got %d files, want 3", len(entries))
	}
	if got, want := read(t, s, logs.Options{Tail: tail(4)}), "line 16\nline 17\nline 18\nline 19\n"; got != want {
		t.Errorf("got %q across files, want %q", got, want)
	}
	if got := read(t, s, logs.Options{}); !strings.HasPrefix(got, "line 12\n") {
		t.Errorf("got %q, want it to begin with the oldest kept line, line 12", got)
	}
}

// collect is a destination that can be read while it is written.
type collect struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *collect) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *collect) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func TestFollowSeesEveryLineThroughRotationsUntilTheRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := open(t, logs.Config{MaxSize: 200, MaxFiles: 3})
		var out collect
		done := make(chan error, 1)
		go func() { done <- s.Read(t.Context(), &out, pod, "app", 0, logs.Options{Follow: true}) }()
		var want strings.Builder
		for i := range 50 {
			synctest.Wait()
			line := fmt.Sprintf("line %d\n", i)
			want.WriteString(line)
			write(t, w, line)
		}
		synctest.Wait()
		if got := out.String(); got != want.String() {
			t.Errorf("got %q while following, want %q", got, want.String())
		}
		_ = w.Close()
		if err := <-done; err != nil {
			t.Errorf("got %v when the run ended, want nil", err)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, logs.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Read(ctx, &bytes.Buffer{}, pod, "app", 0, logs.Options{Follow: true}) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestManyQuietWritersKeepFewFilesOpen(t *testing.T) {
	s, first := open(t, logs.Config{MaxOpen: 2})
	write(t, first, "a\n")
	for i := range 5 {
		w, err := s.Writer(pod, fmt.Sprintf("c%d", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		write(t, w, "x\n")
	}
	if got := s.OpenFiles(); got != 2 {
		t.Errorf("got %d open files, want 2", got)
	}
	write(t, first, "b\n")
	if got, want := read(t, s, logs.Options{}), "a\nb\n"; got != want {
		t.Errorf("got %q from a writer whose file was closed between, want %q", got, want)
	}
}

func TestManyWritersAndReadersAtOnce(t *testing.T) {
	s, first := open(t, logs.Config{MaxOpen: 2, MaxSize: 4096})
	var all sync.WaitGroup
	for i := range 8 {
		w := first
		if i > 0 {
			var err error
			if w, err = s.Writer(pod, fmt.Sprintf("c%d", i), 0); err != nil {
				t.Fatal(err)
			}
		}
		all.Go(func() {
			for n := range 200 {
				_, _ = fmt.Fprintf(w.Stdout(), "line %d\n", n)
			}
			_ = w.Close()
		})
		all.Go(func() { _ = s.Read(t.Context(), &collect{}, pod, "app", 0, logs.Options{Follow: true}) })
	}
	all.Wait()
}

func TestLogsOfUnwantedPodsGo(t *testing.T) {
	dir := t.TempDir()
	s, w := open(t, logs.Config{Dir: dir})
	write(t, w, "x\n")
	_ = w.Close()
	other, err := s.Writer(logs.Pod{Namespace: "default", Name: "web", UID: "u2"}, "app", 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
	if err := s.Keep(func(uid string) bool { return uid == "u1" }); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != "default_web_u1" {
		t.Errorf("got %v, want only default_web_u1", entries)
	}
	if err := s.Remove(pod); err != nil {
		t.Fatal(err)
	}
	if err := s.Read(t.Context(), &bytes.Buffer{}, pod, "app", 0, logs.Options{}); !errors.Is(err, logs.ErrNotFound) {
		t.Errorf("got %v, want %v", err, logs.ErrNotFound)
	}
}

func TestTrimKeepsTheLatestRuns(t *testing.T) {
	s, w := open(t, logs.Config{})
	write(t, w, "x\n")
	_ = w.Close()
	if err := s.Trim(pod, "app", 1); err != nil {
		t.Fatal(err)
	}
	if s.Has(pod, "app", 0) {
		t.Error("run 0 is still there after everything before run 1 was trimmed")
	}
}

func TestNamesCannotLeaveTheDirectory(t *testing.T) {
	s, _ := open(t, logs.Config{})
	for _, bad := range []string{"", "..", "a/b", `a\b`} {
		if _, err := s.Writer(logs.Pod{Namespace: "default", Name: bad, UID: "u"}, "app", 0); err == nil {
			t.Errorf("got a writer for pod %q, want an error", bad)
		}
		if _, err := s.Writer(pod, bad, 0); err == nil {
			t.Errorf("got a writer for container %q, want an error", bad)
		}
	}
}

func ExampleStore_Read() {
	dir, _ := os.MkdirTemp("", "logs")
	defer func() { _ = os.RemoveAll(dir) }()
	s, _ := logs.New(logs.Config{Dir: dir})
	w, _ := s.Writer(pod, "app", 0)
	_, _ = fmt.Fprintln(w.Stdout(), "hello")
	_ = w.Close()
	_ = s.Read(context.Background(), os.Stdout, pod, "app", 0, logs.Options{})
	// Output: hello
}
