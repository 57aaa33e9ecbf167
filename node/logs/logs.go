// Package logs keeps what containers write, on disk, in the format of the
// Kubernetes container runtime interface: one line
//
//	2026-01-01T00:00:00.000000000Z stdout F text
//
// for each line of output, tag P where a long line was cut. Files rotate by size
// and count, and readers may follow them. It knows files, lines and times; it
// never learns what a pod is beyond the names in its path.
//
//	store, err := logs.New(logs.Config{Dir: dir})
//	w, err := store.Writer(logs.Pod{Namespace: "default", Name: "web", UID: uid}, "app", 0)
//	fmt.Fprintln(w.Stdout(), "hello")
//	err = store.Read(ctx, out, pod, "app", 0, logs.Options{Follow: true})
//
// Files lie at DIR/<namespace>_<pod>_<uid>/<container>/<restart>.log, older parts
// of the same run at <restart>.log.1 and so on.
package logs

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// ErrNotFound says that there is no log of that run.
var ErrNotFound = errors.New("log not found")

// Config configures a Store.
type Config struct {
	Dir      string
	MaxSize  int64 // bytes of one file before it rotates; 0 = 10 MiB
	MaxFiles int   // files of one run, the current one included; 0 = 5
	MaxLine  int   // bytes of one line before it is cut into parts; 0 = 16 KiB
	MaxOpen  int   // files open at once; 0 = 512
	Log      *slog.Logger
}

// Store is the logs of one node.
type Store struct {
	cfg Config

	mu     sync.Mutex         // guards what follows
	active map[string]*Writer // by path of the current file
	open   list.List          // of *Writer: those with an open file, last used first
}

// Pod names whose logs these are.
type Pod struct{ Namespace, Name, UID string }

func (p Pod) dir() string { return p.Namespace + "_" + p.Name + "_" + p.UID }

// New makes a store, and its directory.
func New(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("container logs: no directory given")
	}
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 10<<20)
	cfg.MaxFiles = cmp.Or(cfg.MaxFiles, 5)
	cfg.MaxLine = cmp.Or(cfg.MaxLine, 16<<10)
	cfg.MaxOpen = cmp.Or(cfg.MaxOpen, 512)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.MaxSize < 0 || cfg.MaxFiles < 1 || cfg.MaxLine < 64 || cfg.MaxLine > 1<<20 || cfg.MaxOpen < 1 {
		return nil, fmt.Errorf("container logs: size %d, files %d, line %d, open %d: want a positive size and counts, and lines of 64 to 1048576 bytes",
			cfg.MaxSize, cfg.MaxFiles, cfg.MaxLine, cfg.MaxOpen)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("container logs: %w", err)
	}
	return &Store{cfg: cfg, active: map[string]*Writer{}}, nil
}

func (s *Store) path(pod Pod, container string, restart int32) (string, error) {
	for _, part := range []string{pod.Namespace, pod.Name, pod.UID, container} {
		if part == "" || !filepath.IsLocal(part) || strings.ContainsAny(part, `/\`) {
			return "", fmt.Errorf("container logs: %q cannot be part of a path", part)
		}
	}
	return filepath.Join(s.cfg.Dir, pod.dir(), container, strconv.Itoa(int(restart))+".log"), nil
}

// Writer starts the log of one run of a container; what is there already is kept.
// Nothing is made on disk before the first line.
func (s *Store) Writer(pod Pod, container string, restart int32) (*Writer, error) {
	path, err := s.path(pod, container, restart)
	if err != nil {
		return nil, err
	}
	w := newWriter(s, path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[path] != nil {
		return nil, fmt.Errorf("container logs: %s: somebody writes it already", path)
	}
	s.active[path] = w
	return w, nil
}

func (s *Store) writerOf(path string) *Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active[path]
}

// touch marks that a writer has its file open, and returns the writer that
// should close its own, if too many are.
func (s *Store) touch(w *Writer) *Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place != nil {
		s.open.MoveToFront(w.place)
		return nil
	}
	w.place = s.open.PushFront(w)
	if s.open.Len() <= s.cfg.MaxOpen {
		return nil
	}
	return s.open.Back().Value.(*Writer)
}

// untouch marks that a writer has closed its file.
func (s *Store) untouch(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place != nil {
		s.open.Remove(w.place)
		w.place = nil
	}
}

func (s *Store) forget(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[w.path] == w {
		delete(s.active, w.path)
	}
}

// Has says whether there is a log of that run.
func (s *Store) Has(pod Pod, container string, restart int32) bool {
	path, err := s.path(pod, container, restart)
	if err != nil {
		return false
	}
	if s.writerOf(path) != nil {
		return true
	}
	_, err = os.Stat(path)
	return err == nil
}

// Trim removes the logs of all runs of a container before the given one.
func (s *Store) Trim(pod Pod, container string, before int32) error {
	path, err := s.path(pod, container, before)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("container logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		run, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.ParseInt(run, 10, 32); err == nil && int32(n) < before {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Remove removes all logs of a pod.
func (s *Store) Remove(pod Pod) error {
	if _, err := s.path(pod, "x", 0); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.cfg.Dir, pod.dir()))
}

// Keep removes the logs of every pod whose UID is not wanted.
func (s *Store) Keep(wanted func(uid string) bool) error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("container logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if i := strings.LastIndexByte(e.Name(), '_'); i < 0 || !wanted(e.Name()[i+1:]) {
			errs = append(errs, os.RemoveAll(filepath.Join(s.cfg.Dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
