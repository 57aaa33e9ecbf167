package store

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog lets Raft speak through slog. What Raft calls information is
// debugging to us.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

func newRaftLog(l *slog.Logger) hclog.Logger {
	return &raftLog{log: l.With("of", "raft"), name: "raft"}
}

func (l *raftLog) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
	}
	l.log.Log(context.Background(), to, msg, args...)
}

func (l *raftLog) Trace(string, ...any)           {}
func (l *raftLog) Debug(msg string, args ...any)  { l.Log(hclog.Debug, msg, args...) }
func (l *raftLog) Info(msg string, args ...any)   { l.Log(hclog.Info, msg, args...) }
func (l *raftLog) Warn(msg string, args ...any)   { l.Log(hclog.Warn, msg, args...) }
func (l *raftLog) Error(msg string, args ...any)  { l.Log(hclog.Error, msg, args...) }
func (l *raftLog) IsTrace() bool                  { return false }
func (l *raftLog) IsDebug() bool                  { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsInfo() bool                   { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsWarn() bool                   { return l.enabled(slog.LevelWarn) }
func (l *raftLog) IsError() bool                  { return l.enabled(slog.LevelError) }
func (l *raftLog) enabled(level slog.Level) bool  { return l.log.Enabled(context.Background(), level) }
func (l *raftLog) ImpliedArgs() []any             { return l.args }
func (l *raftLog) Name() string                   { return l.name }
func (l *raftLog) Named(string) hclog.Logger      { return l }
func (l *raftLog) ResetNamed(string) hclog.Logger { return l }
func (l *raftLog) SetLevel(hclog.Level)           {} // the handler of slog decides
func (l *raftLog) GetLevel() hclog.Level          { return hclog.Debug }

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{log: l.log.With(args...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *raftLog) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}
