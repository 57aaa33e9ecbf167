package wasmrt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
)

// output is a writer of the embedder's that may block, behind one that a killed
// guest does not wait for. It belongs to the guest's goroutine.
type output struct {
	sink  io.Writer
	meter *meter
	copy  []byte       // of the guest's memory, which is gone when the guest is
	done  chan written // made by the first Write
	left  bool         // a Write is under way that nobody waits for
}

type written struct {
	n   int
	err error
}

// outputGrace is how long a killed guest waits for a Write under way, so that
// one that does not block is over when the instance is.
const outputGrace = 20 * time.Millisecond

var errOutputLeft = errors.New("the guest was killed")

// output wraps a writer. Those that cannot block are taken as they are.
func (m *meter) output(w io.Writer) io.Writer {
	switch w.(type) {
	case nil, *bytes.Buffer, *strings.Builder:
		return w
	}
	return &output{sink: w, meter: m}
}

// Write hands p to a goroutine, which exists while it writes. Most writes are
// over before the guest would wait.
func (o *output) Write(p []byte) (int, error) {
	if o.left {
		return 0, errOutputLeft // what is under way still reads o.copy
	}
	if o.done == nil {
		o.done = make(chan written, 1)
	}
	o.copy = append(o.copy[:0], p...)
	spent := o.meter.hold()
	go o.write()
	runtime.Gosched()
	select {
	case w := <-o.done:
		o.meter.start()
		return w.n, w.err
	default:
	}
	o.meter.turn.leave(spent)
	defer o.meter.Resume()
	select {
	case w := <-o.done:
		return w.n, w.err
	case <-o.meter.system.Killed():
	}
	grace := time.NewTimer(outputGrace)
	defer grace.Stop()
	select {
	case w := <-o.done:
		return w.n, w.err
	case <-grace.C:
		o.left = true
		return 0, errOutputLeft
	}
}

func (o *output) write() {
	var w written
	defer func() {
		if p := recover(); p != nil {
			w = written{err: fmt.Errorf("output: %v", p)}
		}
		o.done <- w
	}()
	w.n, w.err = o.sink.Write(o.copy)
}
