package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/logs"
	"copepod/node/runtime"
)

// stop ends a container politely: its preStop hook, then a request to stop.
// Force follows at a.by, whatever the hook does.
func (w *worker) stop(ctx context.Context, a action) {
	c, r := w.state.containers[a.container], w.runs[a.container]
	with := w.shared
	if !w.state.leaving {
		w.event(&c, v1.EventTypeNormal, "Killing", a.why)
	}
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil || !time.Now().Before(a.by) {
		r.c.Stop()
		return
	}
	ref := w.ref(&c)
	w.op(ctx, func(ctx context.Context) func(*state) {
		ctx, cancel := context.WithDeadline(ctx, a.by)
		defer cancel()
		ctx, ended := context.WithCancel(ctx)
		defer ended()
		stop := context.AfterFunc(r.ctx, ended) // it may end by itself meanwhile
		defer stop()
		if err := w.hook(ctx, with, c.spec, r.c, c.spec.Lifecycle.PreStop); err != nil && r.ctx.Err() == nil {
			w.m.event(ref, v1.EventTypeWarning, "FailedPreStopHook", fmt.Sprintf("PreStopHook failed: %v", err))
		}
		r.c.Stop()
		return func(*state) {}
	})
}

// postStart runs the hook that a container may have for its start.
func (w *worker) postStart(ctx context.Context, with shared, spec *v1.Container, c runtime.Container) error {
	if spec.Lifecycle == nil || spec.Lifecycle.PostStart == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a program that has ended answers no hook
		select {
		case <-c.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := w.hook(ctx, with, spec, c, spec.Lifecycle.PostStart); err != nil {
		return fmt.Errorf("PostStartHook failed: %w", err)
	}
	return nil
}

// hook runs a lifecycle handler.
func (w *worker) hook(ctx context.Context, with shared, spec *v1.Container, c runtime.Container, h *v1.LifecycleHandler) error {
	switch {
	case h.HTTPGet != nil:
		return w.m.cfg.Prober.Get(ctx, target(with.stack, spec, c), h.HTTPGet)
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		case <-ctx.Done():
		}
		return nil
	case h.Exec != nil:
		x, ok := c.(runtime.Execer)
		if !ok {
			return errNoHook
		}
		code, err := x.Exec(ctx, h.Exec.Command, io.Discard)
		if err == nil && code != 0 {
			err = fmt.Errorf("command %q exited with %d", strings.Join(h.Exec.Command, " "), code)
		}
		return err
	}
	return errNoHook
}

var errNoHook = errors.New("the hook has no handler that is supported here; use httpGet or sleep")

// terminated is how the API shows the end of a run.
func terminated(c *container, exit runtime.Exit, at time.Time) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{
		ExitCode:    exit.Code,
		Reason:      string(exit.Reason),
		StartedAt:   *stamp(c.startedAt),
		FinishedAt:  metav1.NewTime(at).Rfc3339Copy(),
		ContainerID: c.id,
	}
}

// Bounds of a termination message, as Kubernetes documents them.
const (
	maxWords     = 4096
	maxWordsKept = 64 << 10 // room for a program that writes more than is shown
	maxWordLogs  = 2048
	wordLogLines = 80
)

// lastWords is the message of a container that ended: what it wrote to its
// termination log, or, if it asked for that and failed, the end of its logs, or
// what the runtime says of it.
func (w *worker) lastWords(c *container, exit runtime.Exit) string {
	if data, err := tail(w.wordsPath(c.spec), maxWords); err == nil && len(data) > 0 {
		return strings.ToValidUTF8(string(data), "")
	}
	if c.spec.TerminationMessagePolicy == v1.TerminationMessageFallbackToLogsOnError && exit.Code != 0 {
		lines := int64(wordLogLines)
		tail := tailBuffer{most: maxWordLogs}
		run := c.restarts
		if err := w.m.cfg.Logs.Read(context.Background(), &tail, w.logs(), c.spec.Name, run, logs.Options{Tail: &lines}); err == nil && len(tail.data) > 0 {
			return strings.ToValidUTF8(string(tail.data), "")
		}
	}
	return exit.Message[:min(len(exit.Message), maxWords)]
}

// tail reads the end of a file, as the kubelet does with a termination log.
func tail(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(info.Size()-most, 0), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// tailBuffer keeps the last bytes that are written to it.
type tailBuffer struct {
	data []byte
	most int
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	if over := len(b.data) - b.most; over > 0 {
		b.data = bytes.Clone(b.data[over:])
	}
	return len(p), nil
}
