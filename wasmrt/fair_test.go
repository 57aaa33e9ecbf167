package wasmrt

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// entered asks for a place and waits until it is had or all is quiet.
func entered(t *turn) (in chan bool) {
	in = make(chan bool, 1)
	go func() { in <- t.enter(nil) }()
	synctest.Wait()
	return in
}

func had(in chan bool) bool {
	synctest.Wait()
	select {
	case ok := <-in:
		return ok
	default:
		return false
	}
}

func TestWhoHadTheLeastForItsWeightIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		first, light, heavy := f.newTurn(100), f.newTurn(100), f.newTurn(300)
		first.enter(nil)
		light.virtual, heavy.virtual = light.scaled(2*time.Millisecond), heavy.scaled(3*time.Millisecond)
		a, b := entered(light), entered(heavy) // they had 2 and 3 ms, for 1 and 3
		first.leave(0)
		if had(a) || !had(b) {
			t.Error("the lighter one went first")
		}
		heavy.leave(0)
		if !had(a) {
			t.Error("the lighter one never came in")
		}
		light.leave(0)
		if f.free != 1 || len(f.running) != 0 {
			t.Errorf("got %d places free and %d running, want 1 and 0", f.free, len(f.running))
		}
	})
}

func TestTimeThatNobodyElseWantsIsFree(t *testing.T) {
	f := newFair(2)
	a := f.newTurn(0)
	a.enter(nil)
	a.tick(time.Hour, nil)
	if a.virtual != 0 || !a.place.Load() {
		t.Errorf("got %v charged, want none", a.virtual)
	}
}

func TestOneThatIsKilledWhileItWaitsTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		a, b := f.newTurn(1), f.newTurn(1)
		a.enter(nil)
		killed, out := make(chan struct{}), make(chan bool, 1)
		go func() { out <- b.enter(killed) }()
		synctest.Wait()
		close(killed)
		if <-out {
			t.Error("it was let in")
		}
		b.leave(0) // as whoever it is always does at the end
		a.leave(0)
		if f.free != 1 || len(f.queue) != 0 || f.waiters.Load() != 0 {
			t.Errorf("got %d places and %d that wait, want 1 and 0", f.free, len(f.queue))
		}
	})
}

func TestOneThatDoesNotTickLosesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		a, b := f.newTurn(1), f.newTurn(1)
		a.enter(nil)
		in := entered(b)
		if had(in) {
			t.Fatal("two have one place")
		}
		time.Sleep(3 * stuck)
		if !had(in) {
			t.Fatal("it still waits")
		}
		out := make(chan bool, 1)
		go func() { out <- a.tick(time.Millisecond, nil) }() // it comes back, and waits in its turn
		if had(out) {
			t.Error("it ran on without a place")
		}
		b.leave(0)
		if !had(out) {
			t.Error("it never came in again")
		}
		a.leave(0)
	})
}

func TestOneThatSleptGoesFirstButSavesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		spinner, sleeper, third := f.newTurn(100), f.newTurn(100), f.newTurn(100)
		third.virtual, spinner.virtual, f.clock = time.Hour, time.Hour, time.Hour
		spinner.enter(nil)
		a, b := entered(third), entered(sleeper)
		if sleeper.virtual < time.Hour-sleeper.scaled(wakeBonus) {
			t.Errorf("it may run for %v before others", time.Hour-sleeper.virtual)
		}
		spinner.leave(0)
		if had(a) || !had(b) {
			t.Error("one that did not sleep went first")
		}
		sleeper.leave(0)
		third.leave(0)
	})
}

func TestALeadIsForgottenBeyondABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		a, b := f.newTurn(1), f.newTurn(1)
		b.virtual = time.Hour
		a.enter(nil)
		in := entered(b)
		if b.virtual > f.clock+b.scaled(maxLead) {
			t.Errorf("it is held to %v", b.virtual)
		}
		a.leave(0)
		if !had(in) {
			t.Error("it never came in")
		}
		b.leave(0)
	})
}

func TestGuestsOfOneShareWeighAsOneHoweverManyTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		alone, together := f.newTurn(100), f.newShare(100)
		turns := []*turn{alone, together.newTurn(), together.newTurn(), together.newTurn()}
		had := make([]int, len(turns))
		rounds, stop := 0, make(chan struct{})
		var guests sync.WaitGroup
		for n, turn := range turns {
			guests.Go(func() {
				defer func() { turn.leave(0) }()
				for ok := turn.enter(stop); ok; ok = turn.tick(time.Millisecond, stop) {
					synctest.Wait() // until the others stand in line
					had[n]++
					if rounds++; rounds == 600 {
						close(stop)
						return
					}
				}
			})
		}
		guests.Wait()
		if had[0] < 250 || had[0] > 350 {
			t.Errorf("got %d of 600 slices for the one alone, want half", had[0])
		}
		for _, n := range had[1:] {
			if n < 80 || n > 120 {
				t.Errorf("got %v slices, want the three to have as much as each other", had)
			}
		}
		if f.free != 1 || len(f.queue) != 0 || f.waiters.Load() != 0 || len(together.waiting) != 0 {
			t.Errorf("got %d places and %d that wait, want 1 and 0", f.free, f.waiters.Load())
		}
	})
}

func TestOneOfAShareThatIsKilledWhileItWaitsLeavesTheOthersInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFair(1)
		s := f.newShare(1)
		a, b, c := s.newTurn(), s.newTurn(), s.newTurn()
		a.enter(nil)
		killed, out := make(chan struct{}), make(chan bool, 1)
		go func() { out <- b.enter(killed) }()
		synctest.Wait()
		in := entered(c)
		close(killed)
		if <-out {
			t.Error("it was let in")
		}
		a.leave(time.Millisecond)
		if !had(in) {
			t.Error("the other never came in")
		}
		c.leave(0)
	})
}
