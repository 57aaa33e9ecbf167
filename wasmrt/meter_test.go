package wasmrt

import (
	"testing"
	"time"
)

func TestQuotaLetsTimeInAtItsRate(t *testing.T) {
	now := time.Unix(1000, 0)
	q := quota{milli: 250}
	if got := q.charge(now, 10*time.Millisecond); got != 40*time.Millisecond {
		t.Errorf("10 ms at a quarter of a core: got a pause of %v, want 40ms", got)
	}
	now = now.Add(40 * time.Millisecond)
	if got := q.charge(now, 0); got != 0 {
		t.Errorf("after the pause: got %v, want 0", got)
	}
	// An hour of rest is worth no more than a burst.
	now = now.Add(time.Hour)
	if got := q.charge(now, 25*time.Millisecond); got != 0 {
		t.Errorf("a burst: got %v, want 0", got)
	}
	if got := q.charge(now, 25*time.Millisecond); got != 100*time.Millisecond {
		t.Errorf("past the burst: got %v, want 100ms", got)
	}
	if got := (&quota{}).charge(now, time.Hour); got != 0 {
		t.Errorf("no limit: got %v, want 0", got)
	}
}

func TestSlicesLearnTheirLength(t *testing.T) {
	m := newMeter(0, nil)
	for range 100 {
		m.learn(time.Microsecond)
	}
	if m.refill != maxFuel {
		t.Errorf("cheap slices: got %d, want %d", m.refill, maxFuel)
	}
	for range 100 {
		m.learn(time.Second)
	}
	if m.refill != minFuel {
		t.Errorf("dear slices: got %d, want %d", m.refill, minFuel)
	}
}
