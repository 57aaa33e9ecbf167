package pods

import "time"

// Backoffs as the kubelet has them.
const (
	backoffBase  = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 10 * time.Minute // without a failure
)

// backoff is how long to wait after a failure. It is a value: each method
// returns the next one and when to try again. The zero backoff has seen none.
type backoff struct {
	delay time.Duration // of the next wait
	last  time.Time     // when the last wait ended
}

// crashed plans the restart of a container that ended: the first at once, then
// after 10 s, doubling to 5 minutes; forgotten when it ran for 10 minutes.
func (b backoff) crashed(at time.Time) (backoff, time.Time) {
	if b.delay == 0 || at.Sub(b.last) > backoffReset {
		return backoff{backoffBase, at}, at
	}
	retry := at.Add(b.delay)
	return backoff{min(2*b.delay, backoffMax), retry}, retry
}

// failed plans another try of what did not work: after 10 s, doubling to 5
// minutes.
func (b backoff) failed(at time.Time) (backoff, time.Time) {
	if at.Sub(b.last) > backoffReset {
		b.delay = 0
	}
	delay := max(b.delay, backoffBase)
	retry := at.Add(delay)
	return backoff{min(2*delay, backoffMax), retry}, retry
}

// setup backoffs are shorter: what is missing often comes in a moment.
const (
	setupBase = 500 * time.Millisecond
	setupMax  = 2 * time.Minute
)

// unready plans another try at a pod's volumes and address.
func (b backoff) unready(at time.Time) (backoff, time.Time) {
	delay := max(b.delay, setupBase)
	retry := at.Add(delay)
	return backoff{min(2*delay, setupMax), retry}, retry
}
