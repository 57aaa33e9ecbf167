package enroll

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what machines may ask for. A site of hundreds that is started at
// once gets through; whoever guesses does not.
const (
	atOnce       = 32
	perSecond    = 200 // of all sources together
	sourceRate   = 4   // a second, of one address
	sourceBurst  = 64
	maxSources   = 4096
	wrongSecrets = 16 // until a token is locked
	lockTime     = 5 * time.Minute
	maxLocks     = 1024
)

// limits bounds requests and wrong secrets. Nothing in it grows with the number
// of those who try.
type limits struct {
	places chan struct{}
	all    *rate.Limiter

	mu      sync.Mutex // guards what follows
	sources map[netip.Prefix]*rate.Limiter
	wrong   map[string]*wrongTries // by id of the token
}

type wrongTries struct {
	count int
	until time.Time
}

func newLimits() *limits {
	return &limits{
		places: make(chan struct{}, atOnce), all: rate.NewLimiter(perSecond, 2*perSecond),
		sources: map[netip.Prefix]*rate.Limiter{}, wrong: map[string]*wrongTries{},
	}
}

// enter takes a place for one request; leave gives it back.
func (l *limits) enter(source netip.Addr, now time.Time) (leave func(), ok bool) {
	// Machines that share this one come from loopback, all of them.
	if !source.IsLoopback() && !l.source(source, now).AllowN(now, 1) || !l.all.AllowN(now, 1) {
		return nil, false
	}
	select {
	case l.places <- struct{}{}:
		return func() { <-l.places }, true
	default:
		return nil, false
	}
}

// source is the limiter of an address; of IPv6, of the network that one customer
// has.
func (l *limits) source(a netip.Addr, now time.Time) *rate.Limiter {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // of no address: the zero prefix, which all such share
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter, ok := l.sources[p]; ok {
		return limiter
	}
	if len(l.sources) >= maxSources { // those who have been quiet lose nothing
		for k, v := range l.sources {
			if v.TokensAt(now) >= sourceBurst {
				delete(l.sources, k)
			}
		}
		if len(l.sources) >= maxSources {
			clear(l.sources)
		}
	}
	limiter := rate.NewLimiter(sourceRate, sourceBurst)
	l.sources[p] = limiter
	return limiter
}

// locked tells whether too many secrets of a token were wrong lately.
func (l *limits) locked(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.wrong[id]
	return ok && w.count >= wrongSecrets && now.Before(w.until)
}

// wrongSecret counts one more. Only ids of tokens that exist come here.
func (l *limits) wrongSecret(id string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.wrong[id]
	if !ok || now.After(w.until) {
		if len(l.wrong) >= maxLocks {
			for k, v := range l.wrong {
				if now.After(v.until) {
					delete(l.wrong, k)
				}
			}
			if len(l.wrong) >= maxLocks {
				return // more tokens than anybody guesses at in five minutes
			}
		}
		w = &wrongTries{}
		l.wrong[id] = w
	}
	w.count++
	w.until = now.Add(lockTime)
}
