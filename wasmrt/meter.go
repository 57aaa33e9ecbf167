package wasmrt

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/wasi"
)

// What package rewrite adds to a module: an import, which the module calls when
// the exported global is below zero. A module cannot import it of its own
// accord: Load refuses that.
const (
	meterModule = "copepod_meter"
	meterTick   = "tick"
	fuelGlobal  = "__copepod_fuel"
)

// A slice of fuel should last about sliceGoal: long enough that looking at the
// clock costs nothing, short enough that nobody notices a guest that loops.
const (
	sliceGoal    = 500 * time.Microsecond
	minFuel      = 10_000
	firstFuel    = 100_000
	maxFuel      = 4_000_000
	quotaBurst   = 100 * time.Millisecond // of wall time, as the kernel's bandwidth controller has it
	milliPerCore = 1000
)

// meter accounts for one guest's use of the processor: its thread's time in
// each slice, and until its first tick the wall's.
type meter struct {
	system *wasi.System
	limit  *quota            // may be shared with other guests
	turn   *turn             // the guest's own
	fuel   api.MutableGlobal // the guest's, once it ticked
	refill uint64            // fuel for one slice, learned
	broken bool              // the slice under way was broken by a wait: nothing to learn from

	mu      sync.Mutex // guards what follows
	used    time.Duration
	running bool
	since   time.Time     // start of the slice under way
	thread  time.Duration // the thread's clock then
}

func newMeter(milli int64, turn *turn) *meter {
	return &meter{limit: &quota{milli: milli}, turn: turn, refill: firstFuel}
}

// begin waits for the guest's first turn.
func (m *meter) begin() {
	m.enter()
	m.start()
}

// finish is the end of the guest, wherever it was.
func (m *meter) finish() { m.turn.leave(m.stop()) }

// enter waits for a turn. It does not return if the guest is killed meanwhile.
func (m *meter) enter() {
	if !m.turn.enter(m.system.Killed()) {
		panic(sys.NewExitError(wasi.InterruptedCode))
	}
}

type meterKey struct{}

// instantiateMeter gives the runtime the module that metered guests import.
func instantiateMeter(ctx context.Context, rt wazero.Runtime) error {
	tick := api.GoModuleFunc(func(ctx context.Context, mod api.Module, _ []uint64) {
		ctx.Value(meterKey{}).(*meter).tick(mod)
	})
	_, err := rt.NewHostModuleBuilder(meterModule).
		NewFunctionBuilder().WithGoModuleFunction(tick, nil, nil).Export(meterTick).
		Instantiate(ctx)
	return err
}

// tick ends a slice: charge it, wait if the guest is over its limit, let
// others run, and begin the next. It is where a guest that loops is killed.
func (m *meter) tick(mod api.Module) {
	if m.system.Interrupted() {
		panic(sys.NewExitError(wasi.InterruptedCode))
	}
	if m.fuel == nil {
		m.find(mod)
	}
	spent := m.stop()
	if !m.broken {
		m.learn(spent)
	}
	m.broken = false
	if pause := m.limit.charge(time.Now(), spent); pause > 0 {
		m.turn.leave(spent)
		m.system.Pause(pause)
		m.enter()
	} else if !m.turn.tick(spent, m.system.Killed()) {
		panic(sys.NewExitError(wasi.InterruptedCode))
	}
	runtime.Gosched() // for all that is not a guest, and has no turns
	m.fuel.Set(m.refill)
	m.start()
}

// find looks the guest's fuel up.
func (m *meter) find(mod api.Module) {
	fuel, ok := mod.ExportedGlobal(fuelGlobal).(api.MutableGlobal)
	if !ok {
		panic("wasmrt: a rewritten module does not export " + fuelGlobal)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fuel = fuel
}

// learn moves the slice towards its goal.
func (m *meter) learn(spent time.Duration) {
	switch {
	case spent > 2*sliceGoal:
		m.refill = max(m.refill/2, minFuel)
	case spent < sliceGoal/2:
		m.refill = min(m.refill*2, maxFuel)
	}
}

// start begins a slice: the guest runs from here on.
func (m *meter) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running, m.since, m.thread = true, time.Now(), threadTime()
}

// stop ends a slice and returns what it cost. Between two slices the goroutine
// may have changed threads, so their clocks are believed only as far as the
// wall clock goes.
func (m *meter) stop() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		return 0
	}
	spent := time.Since(m.since)
	if m.fuel != nil {
		spent = min(spent, max(threadTime()-m.thread, 0))
	}
	m.used += spent
	m.running = false
	return spent
}

// Park is called when the guest waits.
func (m *meter) Park() {
	m.turn.leave(m.hold())
}

// hold ends a slice early: the guest's thread is about to do something else.
func (m *meter) hold() time.Duration {
	m.broken = true
	spent := m.stop()
	if m.fuel != nil {
		m.limit.charge(time.Now(), spent)
	}
	return spent
}

// Resume is called when the guest runs on. One that used more than its share
// before it waited waits a little more.
func (m *meter) Resume() {
	if pause := m.limit.charge(time.Now(), 0); pause > 0 && m.fuel != nil {
		m.system.Pause(pause)
	}
	m.enter()
	m.start()
}

// total is the time charged so far. The slice under way is not in it: what it
// cost is known at its end, which is near.
func (m *meter) total() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// quota holds guests to a share of a core: time flows in at its rate, up to
// what quotaBurst brings, and what the guests use flows out.
type quota struct {
	milli int64 // thousandths of a core; 0: no limit

	mu     sync.Mutex // guards what follows
	credit time.Duration
	last   time.Time
}

// charge takes used from the credit, and returns how long to wait until the
// credit is back at zero.
func (q *quota) charge(now time.Time, used time.Duration) time.Duration {
	if q.milli <= 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.last.IsZero() {
		q.credit += now.Sub(q.last) * time.Duration(q.milli) / milliPerCore
	}
	q.last = now
	q.credit = min(q.credit, quotaBurst*time.Duration(q.milli)/milliPerCore) - used
	return max(-q.credit*milliPerCore/time.Duration(q.milli), 0)
}
