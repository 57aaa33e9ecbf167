package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Options say what of a log is wanted; the zero value is all of it up to now.
type Options struct {
	Follow     bool
	Timestamps bool
	Tail       *int64    // lines from the end; nil: every line
	Since      time.Time // lines written before are left out
	Limit      int64     // bytes of output; 0: no limit
	Stream     Stream    // only this one; empty: both
}

// flusher is a destination that holds bytes back until told.
type flusher interface{ Flush() }

// Read writes the log of one run of a container to out. With Follow it goes on
// until the run ends or ctx does. It returns ErrNotFound, ctx's error, or what
// out said.
func (s *Store) Read(ctx context.Context, out io.Writer, pod Pod, container string, restart int32, opts Options) error {
	path, err := s.path(pod, container, restart)
	if err != nil {
		return err
	}
	r := reader{out: out, path: path, writer: s.writerOf(path), opts: opts, cfg: s.cfg, atStart: map[Stream]bool{Stdout: true, Stderr: true}}
	defer r.close()
	if err := r.openAll(); err != nil {
		return err
	}
	err = r.run(ctx)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

var errLimit = errors.New("as many bytes as were asked for")

// reader is one reading of a log, from its oldest part to the current one.
type reader struct {
	out    io.Writer
	path   string
	writer *Writer // nil when the run has ended
	opts   Options
	cfg    Config

	files   []*os.File // still to be read, oldest first; the last is the current one
	gen     int        // the writer's rotations when files was made
	opened  bool       // the current file was open once
	buf     []byte     // what of files[0] was read and not yet used
	written int64
	atStart map[Stream]bool // the stream's next entry begins a line
}

func (r *reader) close() {
	for _, f := range r.files {
		_ = f.Close()
	}
}

// openAll opens every part of the log.
func (r *reader) openAll() error {
	if err := r.open(r.cfg.MaxFiles - 1); err != nil {
		return err
	}
	if len(r.files) == 0 && r.writer == nil {
		return fmt.Errorf("container logs: %s: %w", r.path, ErrNotFound)
	}
	if r.opts.Tail == nil {
		return nil
	}
	return r.seekTail(*r.opts.Tail)
}

// open opens the parts from the given one to the current one. While the writer
// is held up, no part can be moved away.
func (r *reader) open(oldest int) error {
	if r.writer != nil {
		r.writer.mu.Lock()
		defer r.writer.mu.Unlock()
		if moved := r.writer.rotations - r.gen; r.opened {
			oldest = moved - 1 // what was current, and is drained, has this number now plus one
		}
		r.gen = r.writer.rotations
	}
	r.close()
	r.files = nil
	for n := min(oldest, r.cfg.MaxFiles-1); n >= 0; n-- {
		f, err := os.Open(part(r.path, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("container logs: %w", err)
		}
		r.files, r.opened = append(r.files, f), true
	}
	return nil
}

// seekTail skips to the last Tail lines.
func (r *reader) seekTail(left int64) error {
	for i := len(r.files) - 1; i >= 0; i-- {
		at, found, err := seekLines(r.files[i], left)
		if err != nil {
			return fmt.Errorf("container logs: %w", err)
		}
		left -= found
		if left > 0 {
			continue // the whole file, and some of the one before
		}
		if _, err := r.files[i].Seek(at, io.SeekStart); err != nil {
			return fmt.Errorf("container logs: %w", err)
		}
		for _, f := range r.files[:i] {
			_ = f.Close()
		}
		r.files = r.files[i:]
		return nil
	}
	return nil
}

// seekLines finds where the last n lines of a file begin, reading it backwards,
// and how many of them there are.
func seekLines(f *os.File, n int64) (at, found int64, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return end, 0, err
	}
	block := make([]byte, 32<<10)
	for at = end; at > 0; {
		size := min(at, int64(len(block)))
		b := block[:size]
		if _, err := f.ReadAt(b, at-size); err != nil {
			return 0, 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			// The newline that ends line k from the end is the start of line k-1.
			if b[i] != '\n' || at-size+int64(i) == end-1 {
				continue
			}
			if found++; found == n {
				return at - size + int64(i) + 1, found, nil
			}
		}
		at -= size
	}
	if end > 0 {
		found++ // the first line has no newline before it
	}
	_, err = f.Seek(0, io.SeekStart)
	return 0, found, err
}

// run copies until the end, or, following, until the writer ends.
func (r *reader) run(ctx context.Context) error {
	for {
		gen, ended, changed := r.state()
		if err := r.drain(ctx); err != nil {
			return err
		}
		switch {
		case !r.opts.Follow || ended:
			return nil
		case gen != r.gen:
			if err := r.open(0); err != nil {
				return err
			}
			continue
		}
		if f, ok := r.out.(flusher); ok {
			f.Flush()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// state is what the writer was before a drain: whatever is written after it
// closes changed.
func (r *reader) state() (gen int, ended bool, changed <-chan struct{}) {
	if r.writer == nil {
		return r.gen, true, nil
	}
	w := r.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.rotations, w.closed, w.changed
}

// drain copies what is there. It leaves the last file open.
func (r *reader) drain(ctx context.Context) error {
	if len(r.files) == 0 { // nothing was written when we looked; perhaps now
		if err := r.open(r.cfg.MaxFiles - 1); err != nil || len(r.files) == 0 {
			return err
		}
	}
	for {
		if err := r.copyFile(ctx, r.files[0]); err != nil {
			return err
		}
		if len(r.files) == 1 {
			return nil
		}
		_ = r.files[0].Close()
		r.files, r.buf = r.files[1:], nil
	}
}

// copyFile copies the complete lines that a file has left.
func (r *reader) copyFile(ctx context.Context, f *os.File) error {
	block := make([]byte, 32<<10)
	for ctx.Err() == nil {
		n, err := f.Read(block)
		r.buf = append(r.buf, block[:n]...)
		for {
			line, rest, ok := bytes.Cut(r.buf, []byte{'\n'})
			if !ok {
				break
			}
			if err := r.line(line); err != nil {
				return err
			}
			r.buf = rest
		}
		if len(r.buf) > r.cfg.MaxLine+overhead {
			r.buf = nil // no line of ours: what follows to the newline is skipped as malformed
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("container logs: %w", err)
		}
	}
	return ctx.Err()
}

// line writes one line as it was asked for. A line that cannot be read is left
// out: it may have been cut by a full disk.
func (r *reader) line(raw []byte) error {
	e, err := parseEntry(raw)
	if err != nil || e.time.Before(r.opts.Since) || (r.opts.Stream != "" && e.stream != r.opts.Stream) {
		return nil
	}
	var text []byte
	if r.opts.Timestamps && r.atStart[e.stream] {
		text = e.time.AppendFormat(text, time.RFC3339Nano)
		text = append(text, ' ')
	}
	text = append(text, e.text...)
	if !e.partial {
		text = append(text, '\n')
	}
	r.atStart[e.stream] = !e.partial
	full := r.opts.Limit > 0 && r.written+int64(len(text)) >= r.opts.Limit
	if full {
		text = text[:r.opts.Limit-r.written]
	}
	n, err := r.out.Write(text)
	r.written += int64(n)
	if err == nil && full {
		return errLimit
	}
	return err
}
