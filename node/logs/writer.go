package logs

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Writer is the log of one run of a container. Its file is open only while it is
// among the recently used: thousands of quiet containers cost no descriptors.
type Writer struct {
	store *Store
	path  string
	place *list.Element // in store.open; guarded by store.mu

	out, err stream

	mu         sync.Mutex // guards what follows
	file       *os.File
	size       int64
	rotations  int           // how often the file was moved away
	closed     bool          //
	complained bool          // a lost line was logged already
	changed    chan struct{} // made by a reader that waits; closed at the next change
}

// stream is one of the two outputs; it holds the line that is not yet complete.
type stream struct {
	w    *Writer
	name Stream
	line []byte // guarded by w.mu
}

func newWriter(s *Store, path string) *Writer {
	w := &Writer{store: s, path: path, size: -1}
	w.out, w.err = stream{w: w, name: Stdout}, stream{w: w, name: Stderr}
	return w
}

// Stdout and Stderr are where the container writes. They take everything: when
// the disk is full, lines are lost, and the container goes on.
func (w *Writer) Stdout() io.Writer { return &w.out }

// Stderr is the other stream.
func (w *Writer) Stderr() io.Writer { return &w.err }

func (s *stream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.closed {
		return 0, os.ErrClosed
	}
	if buf := s.split(p, time.Now()); len(buf) > 0 {
		s.w.flush(buf)
	}
	return len(p), nil
}

// split turns output into the lines that it completes, and keeps the rest.
func (s *stream) split(p []byte, now time.Time) []byte {
	var buf []byte
	limit := s.w.store.cfg.MaxLine
	for len(p) > 0 {
		text, rest, complete := bytes.Cut(p, []byte{'\n'})
		if room := limit - len(s.line); len(text) > room {
			text, rest, complete = p[:room], p[room:], false
		}
		p = rest
		if complete || len(s.line)+len(text) == limit {
			if len(s.line) > 0 {
				s.line = append(s.line, text...)
				text = s.line
			}
			buf = appendEntry(buf, entry{time: now, stream: s.name, partial: !complete, text: text})
			s.line = s.line[:0]
			continue
		}
		s.line = append(s.line, text...)
	}
	if len(s.line) == 0 {
		s.line = nil // an idle container holds no buffer
	}
	return buf
}

// flush appends whole lines to the file. The caller holds w.mu.
func (w *Writer) flush(buf []byte) {
	err := w.append(buf)
	if err != nil && !w.complained {
		w.complained = true
		w.store.cfg.Log.Error("container log lost", "path", w.path, "err", err)
	}
	w.announce()
}

func (w *Writer) append(buf []byte) error {
	if w.size >= w.store.cfg.MaxSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if err := w.reopen(); err != nil {
		return err
	}
	n, err := w.file.Write(buf)
	w.size += int64(n)
	return err
}

// reopen opens the file unless it is open, and closes the least recently used
// one of another writer if there are too many. The caller holds w.mu.
func (w *Writer) reopen() error {
	if w.file == nil {
		f, err := create(w.path)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return err
		}
		w.file, w.size = f, info.Size()
	}
	// A victim that is being written is left alone: it is not idle after all.
	if victim := w.store.touch(w); victim != nil && victim != w && victim.mu.TryLock() {
		victim.shut()
		victim.mu.Unlock()
	}
	return nil
}

// create opens a file to append to, and makes it and its directory if need be.
func create(path string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	f, err := os.OpenFile(path, flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flags, 0o600)
}

// shut closes the file. The caller holds w.mu.
func (w *Writer) shut() {
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
		w.store.untouch(w)
	}
}

// rotate moves the file away, and the oldest part off the disk. The caller
// holds w.mu.
func (w *Writer) rotate() error {
	w.shut()
	for n := w.store.cfg.MaxFiles - 1; n > 0; n-- {
		from := part(w.path, n-1)
		if err := os.Rename(from, part(w.path, n)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if w.store.cfg.MaxFiles == 1 {
		if err := os.Remove(w.path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	w.size = 0
	w.rotations++
	return nil
}

// part is the path of the n-th part of a run's log, 0 being the current one.
func part(path string, n int) string {
	if n == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// announce wakes the readers that wait. The caller holds w.mu.
func (w *Writer) announce() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// Close ends the log: lines that were not complete are written as they are, and
// readers that follow come to the end.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	var buf []byte
	for _, s := range []*stream{&w.out, &w.err} {
		if len(s.line) > 0 {
			buf = appendEntry(buf, entry{time: time.Now(), stream: s.name, text: s.line})
			s.line = nil
		}
	}
	if len(buf) > 0 {
		w.flush(buf)
	}
	w.closed = true
	w.shut()
	w.announce()
	w.mu.Unlock()
	w.store.forget(w)
	return nil
}
