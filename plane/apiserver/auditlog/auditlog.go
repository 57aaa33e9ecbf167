// Package auditlog keeps a record of who changed what through the API, who read
// Secrets, and who failed to prove who they are: one JSON line of
// audit.k8s.io/v1 each, never with a body, in a file of mode 0600 that is rotated
// by size. It knows audit events; it never learns what was changed.
//
// A disk that stalls must not stall the API. Lines wait in a queue of bounded
// size; a request waits a moment for a place in it, no longer, and then goes on
// without its line, which is counted and said in the log.
//
//	a, err := auditlog.New(auditlog.Config{Path: dir + "/logs/audit.log"})
//	apiserver.Config{Audit: a, AuditPolicy: a.Policy(), …} // the server runs it
package auditlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/apimachinery/pkg/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
)

// Config configures a Log. Only Path is needed.
type Config struct {
	Path    string // of the file; its directory is made, 0700
	MaxMiB  int    // at which it is rotated; 0: 100
	Keep    int    // old files kept; 0: 5
	Queue   int    // lines that may wait; 0: 8192
	Log     *slog.Logger
	Metrics prometheus.Registerer // gets copepod_audit_*; nil: none

	out io.WriteCloser // in place of the file, for tests
}

// How long a request waits for a place in the queue, and how many lines a second
// those get who prove no identity: they must not push the others out of the files
// that are kept.
const (
	patience      = 100 * time.Millisecond
	strangers     = 20
	strangerBurst = 200
)

// Log is an audit.Backend.
type Log struct {
	cfg       Config
	out       io.WriteCloser
	encoder   runtime.Encoder
	queue     chan []byte
	closed    chan struct{} // by Shutdown
	ended     chan struct{} // by the writer
	started   atomic.Bool
	once      sync.Once
	strangers *rate.Limiter
	warnings  *rate.Limiter
	written   prometheus.Counter
	dropped   *prometheus.CounterVec
}

var _ audit.Backend = (*Log)(nil)

// New opens the log. Nothing is written before Run.
func New(cfg Config) (*Log, error) {
	if cfg.Path == "" && cfg.out == nil {
		return nil, errors.New("audit log: config: Path is empty")
	}
	cfg.MaxMiB, cfg.Keep, cfg.Queue = cmp.Or(cfg.MaxMiB, 100), cmp.Or(cfg.Keep, 5), cmp.Or(cfg.Queue, 8192)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("part", "audit")
	l := &Log{
		cfg: cfg, out: cfg.out, encoder: audit.Codecs.LegacyCodec(auditv1.SchemeGroupVersion),
		queue: make(chan []byte, cfg.Queue), closed: make(chan struct{}), ended: make(chan struct{}),
		strangers: rate.NewLimiter(strangers, strangerBurst), warnings: rate.NewLimiter(rate.Every(time.Minute), 1),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "copepod_audit_lines_total", Help: "Lines of the audit log."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_audit_dropped_total", Help: "Lines that are missing in the audit log: the disk was too slow (queue, write), strangers were too many (strangers).",
		}, []string{"reason"}),
	}
	if cfg.Metrics != nil {
		if err := errors.Join(cfg.Metrics.Register(l.written), cfg.Metrics.Register(l.dropped)); err != nil {
			return nil, fmt.Errorf("audit log: metrics: %w", err)
		}
	}
	if l.out == nil {
		file, err := open(cfg)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		l.out = file
	}
	return l, nil
}

// open makes the file if need be, closed to others than its owner: the rotation
// keeps the mode that it finds.
func open(cfg Config) (io.WriteCloser, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: cfg.Path, MaxSize: cfg.MaxMiB, MaxBackups: cfg.Keep}, nil
}

// String implements audit.Backend.
func (l *Log) String() string { return "copepod-audit-log" }

// Run implements audit.Backend: it starts the writer. Lines are taken until
// Shutdown, which comes after stop has closed.
func (l *Log) Run(<-chan struct{}) error {
	if l.started.CompareAndSwap(false, true) {
		go l.write()
	}
	return nil
}

// Shutdown implements audit.Backend: it returns when what waited is written.
func (l *Log) Shutdown() {
	l.once.Do(func() {
		close(l.closed)
		if l.started.Load() {
			<-l.ended
		}
		if err := l.out.Close(); err != nil {
			l.cfg.Log.Warn("audit log not closed", "err", err)
		}
	})
}

// ProcessEvents implements audit.Sink.
func (l *Log) ProcessEvents(events ...*auditinternal.Event) bool {
	all := true
	for _, e := range events {
		all = l.take(e) && all
	}
	return all
}

func (l *Log) take(e *auditinternal.Event) bool {
	if e.User.Username == "" && !l.strangers.Allow() {
		l.drop("strangers", nil)
		return false
	}
	line, err := runtime.Encode(l.encoder, trim(e))
	if err != nil {
		l.drop("encode", err)
		return false
	}
	select {
	case l.queue <- line:
		return true
	case <-l.closed:
		return false
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case l.queue <- line:
		return true
	case <-l.closed:
	case <-t.C:
		l.drop("queue", nil)
	}
	return false
}

func (l *Log) drop(reason string, err error) {
	l.dropped.WithLabelValues(reason).Inc()
	if l.warnings.Allow() {
		l.cfg.Log.Warn("lines are missing in the audit log", "reason", reason, "err", err)
	}
}

// batch is how many bytes are written at once.
const batch = 64 << 10

// write writes lines until the log is closed and nothing waits.
func (l *Log) write() {
	defer close(l.ended)
	var buf bytes.Buffer
	for {
		select {
		case line := <-l.queue:
			l.flush(&buf, line)
		case <-l.closed:
			for {
				select {
				case line := <-l.queue:
					l.flush(&buf, line)
				default:
					return
				}
			}
		}
	}
}

// flush writes a line and those that wait behind it.
func (l *Log) flush(buf *bytes.Buffer, line []byte) {
	buf.Reset()
	n := 0
	for more := true; more; {
		buf.Write(line)
		n++
		if more = buf.Len() < batch; more {
			select {
			case line = <-l.queue:
			default:
				more = false
			}
		}
	}
	if _, err := l.out.Write(buf.Bytes()); err != nil {
		l.dropped.WithLabelValues("write").Add(float64(n) - 1)
		l.drop("write", err)
		return
	}
	l.written.Add(float64(n))
}
