package wasi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

// InterruptedCode is the exit code of a guest that Interrupt ended: 128 + 9, as
// a shell shows a process ended by SIGKILL.
const InterruptedCode = 137

// Config is what one guest may see and use. The zero value is a guest with no
// arguments, an empty standard input, and output that goes nowhere.
type Config struct {
	Args []string // Args[0] is the program's name
	Env  []string // "K=V" each

	// Stdin is read ahead by at most 16 KiB. If it is also an io.Closer it is
	// closed when the guest ends, which is what releases a blocked Read.
	Stdin io.Reader
	// Stdout and Stderr are written to from the guest's goroutine: a Write that
	// blocks holds the guest, and Interrupt waits for it.
	Stdout, Stderr io.Writer

	Listeners []Listener // descriptors 3 and up; owned by the System from New on, even when New fails
	Mounts    []Mount    // the descriptors after them
	Preopens  *Preopens  // and after those; still the caller's, to close after the System; nil: none
	Network   Network    // nil: no sockets beyond the listeners

	// Terminal says which of the three streams are a terminal: isatty(3) is true
	// for those.
	Terminal [3]bool

	Trace io.Writer // gets a line for each host call; nil: none
	Clock Meter     // nil: time is not accounted

	Descriptors *Budget // of the host, for this guest and others; nil: no bound

	Started time.Time // where the monotonic clock begins; zero: now
}

// Listener is a socket that is open when the guest starts, as systemd's socket
// activation has it: LISTEN_FDS counts them, LISTEN_FDNAMES names them.
type Listener struct {
	Name string // no colon; empty is "unknown", as sd_listen_fds_with_names(3)
	net.Listener
}

// Mount shows the guest a directory or one file of the host.
type Mount struct {
	Guest    string // absolute path in the guest
	Host     string // path on the host; a directory or a regular file
	ReadOnly bool
	Quota    *Quota // what may be kept there; shared by all that show the volume; nil: no bound
}

// Network is where a guest's own sockets come from.
type Network interface {
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Meter is told when the guest waits, so that its use of the processor can be
// counted without a look at the clock in each call.
type Meter interface {
	Park()   // the guest is about to wait
	Resume() // it runs again
}

// System is one guest's view of the world. Its methods are safe from any
// goroutine; the host functions run on the guest's.
type System struct {
	args, env []string
	listeners []Listener
	stdin     inlet
	outside   *outside // nil: no network
	meter     Meter
	trace     io.Writer
	started   time.Time
	exited    atomic.Bool // the guest called proc_exit
	dead      atomic.Bool
	interrupt chan struct{} // closed by Interrupt
	wake      chan struct{} // one slot: something that the guest waits for may have happened
	closing   sync.Once

	// What follows belongs to the guest's goroutine, and after it to Close.
	table   table
	outlets [2]outlet
	streams [3]descriptor  // room for the first rows, of which
	rows    [8]*descriptor // most guests have no more
	vectors [][]byte       // scratch of memory.vectors
	cancels []func()       // scratch of poll_oneoff
	timer   *time.Timer    // reused by every wait
}

// New opens what cfg names. On an error nothing stays open, the listeners
// included.
func New(cfg Config) (*System, error) {
	s := &System{
		args:      cfg.Args,
		listeners: cfg.Listeners,
		meter:     cfg.Clock,
		trace:     cfg.Trace,
		started:   cfg.Started,
		interrupt: make(chan struct{}),
		wake:      make(chan struct{}, 1),
	}
	if s.started.IsZero() {
		s.started = time.Now()
	}
	s.stdin.init(cfg.Stdin)
	s.table.rows, s.table.budget = s.rows[:0], cfg.Descriptors
	s.stdin.terminal = cfg.Terminal[0]
	if cfg.Network != nil {
		s.outside = newOutside(cfg.Network)
	}
	if err := s.open(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *System) open(cfg Config) error {
	s.outlets = [2]outlet{{cfg.Stdout, cfg.Terminal[1]}, {cfg.Stderr, cfg.Terminal[2]}}
	s.streams = [3]descriptor{
		{file: &s.stdin, rights: rightRead},
		{file: &s.outlets[0], rights: rightWrite},
		{file: &s.outlets[1], rights: rightWrite},
	}
	for n := range s.streams {
		s.table.add(&s.streams[n])
	}
	var errs []error
	add := func(d *descriptor) {
		if _, e := s.table.add(d); e != success {
			errs = append(errs, fmt.Errorf("no descriptor for what it begins with: %w", e))
			d.close()
		}
	}
	for i, l := range cfg.Listeners {
		if strings.Contains(l.Name, ":") {
			errs = append(errs, fmt.Errorf("listener %q: a name cannot hold a colon", l.Name))
		}
		add(&descriptor{file: newListening(cfg.Listeners[i].Listener), flags: flagNonblock, rights: rightsOfSocket, preopen: true})
	}
	s.env = environment(cfg.Env, cfg.Listeners)
	mounts, err := openMounts(cfg.Mounts)
	if err != nil {
		errs = append(errs, err)
	}
	for _, d := range mounts {
		add(d)
	}
	shown := cfg.Preopens.show()
	for n := range shown {
		add(&shown[n].descriptor)
	}
	for _, pair := range s.env {
		if strings.ContainsRune(pair, 0) || !strings.Contains(pair, "=") {
			errs = append(errs, fmt.Errorf("environment %q: not of the form K=V", pair))
		}
	}
	for _, arg := range s.args {
		if strings.ContainsRune(arg, 0) {
			errs = append(errs, fmt.Errorf("argument %q: holds a zero byte", arg))
		}
	}
	return errors.Join(errs...)
}

// environment adds what tells a guest of its listeners. LISTEN_PID is left
// out: guests have no process id, and those that check it skip the check
// when it is unset.
func environment(env []string, listeners []Listener) []string {
	if len(listeners) == 0 {
		return env
	}
	names := make([]string, len(listeners))
	for i, l := range listeners {
		if names[i] = l.Name; l.Name == "" {
			names[i] = "unknown"
		}
	}
	return append(env[:len(env):len(env)],
		fmt.Sprintf("LISTEN_FDS=%d", len(listeners)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
}

type systemKey struct{}

// Context returns ctx with the system in it, for the instantiation and every
// call of its guest.
func (s *System) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, systemKey{}, s)
}

// Interrupt ends the guest: a call that waits leaves at once, and any later
// call leaves as it enters, with exit code InterruptedCode.
func (s *System) Interrupt() {
	if s.dead.CompareAndSwap(false, true) {
		close(s.interrupt)
		if s.outside != nil {
			s.outside.cancel()
		}
	}
}

// Interrupted reports whether Interrupt was called.
func (s *System) Interrupted() bool { return s.dead.Load() }

// Killed is closed by Interrupt.
func (s *System) Killed() <-chan struct{} { return s.interrupt }

// Exited reports whether the guest ended itself with proc_exit.
func (s *System) Exited() bool { return s.exited.Load() }

// Terminate asks the guest to end: its listeners are closed, and its standard
// input is at the end. WASI has no signals, so this is all that can be said.
func (s *System) Terminate() {
	s.stdin.end()
	for _, l := range s.listeners {
		l.Close()
	}
	if s.outside != nil {
		s.outside.terminate()
	}
	s.notify()
}

// Close frees every descriptor. The caller makes sure that no call runs.
func (s *System) Close() {
	s.closing.Do(func() {
		s.Interrupt()
		s.table.closeAll()
		s.stdin.release()
		for _, l := range s.listeners {
			l.Close()
		}
		if s.timer != nil {
			s.timer.Stop()
		}
	})
}

// enter is the first step of every call.
func (s *System) enter() {
	if s.dead.Load() {
		panic(sys.NewExitError(InterruptedCode))
	}
}

// notify ends the guest's wait, if it waits. It never blocks.
func (s *System) notify() {
	select {
	case s.wake <- struct{}{}:
	default: // a wake-up is on its way already
	}
}

// wait parks the guest until notify, the deadline, or Interrupt, which does
// not return. A zero deadline is none. It reports whether the deadline passed.
func (s *System) wait(deadline time.Time) (late bool) {
	if !deadline.IsZero() && time.Until(deadline) <= 0 {
		return true
	}
	if s.meter != nil {
		s.meter.Park()
		defer s.meter.Resume()
	}
	return s.park(deadline)
}

// park is wait, for whoever keeps the time.
func (s *System) park(deadline time.Time) (late bool) {
	var fire <-chan time.Time
	if !deadline.IsZero() {
		if s.timer == nil {
			s.timer = time.NewTimer(time.Until(deadline))
		} else {
			s.timer.Reset(time.Until(deadline))
		}
		defer s.timer.Stop()
		fire = s.timer.C
	}
	select {
	case <-s.wake:
		return false
	case <-fire:
		return true
	case <-s.interrupt:
		panic(sys.NewExitError(InterruptedCode))
	}
}

// Pause holds the guest for d, or until Interrupt, which does not return. It is
// for the Meter, on the guest's own goroutine; the Meter is not told.
func (s *System) Pause(d time.Duration) {
	for until := time.Now().Add(d); !s.park(until); {
	}
	s.notify() // a wake-up that came meanwhile was meant for another wait
}
