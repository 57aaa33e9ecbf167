package revoke

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"copepod/plane/auth/certs"
)

// An Error says that a certificate was good once.
type Error struct {
	Node string
	At   time.Time
}

func (e *Error) Error() string {
	return fmt.Sprintf("node %q was revoked at %s: to let the machine in again, join it anew with `copepod join` and a fresh data directory",
		e.Node, e.At.UTC().Format(time.RFC3339))
}

// A List judges certificates by the entries that it was given last. The zero
// value refuses nobody; it is safe for concurrent use.
type List struct {
	index atomic.Pointer[index]

	mu    sync.Mutex // guards what follows
	holds map[*hold]struct{}
}

type index struct {
	entries Entries
	names   map[string]Entry
	keys    map[string]Entry
}

type hold struct {
	cert   *x509.Certificate
	cancel context.CancelCauseFunc
}

// Set replaces the entries and ends what Hold gave to those who are refused now.
func (l *List) Set(entries Entries) {
	next := &index{entries: entries, names: map[string]Entry{}, keys: map[string]Entry{}}
	for _, e := range entries.Entries {
		next.names[e.Node] = e
		for _, k := range e.Keys {
			next.keys[k] = e
		}
	}
	l.index.Store(next)
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := range l.holds {
		if err := l.Check(h.cert); err != nil {
			h.cancel(err)
			delete(l.holds, h)
		}
	}
}

// Entries is what Set was given last.
func (l *List) Entries() Entries {
	if i := l.index.Load(); i != nil {
		return i.entries
	}
	return Entries{}
}

// Check returns an *Error if the certificate's node was revoked after it was
// issued, or its key was.
func (l *List) Check(cert *x509.Certificate) error {
	i := l.index.Load()
	if i == nil || len(i.names) == 0 {
		return nil
	}
	if name, _, ok := certs.NodeOf(cert); ok {
		// Issuing times have no fractions: what was issued in the second of the
		// revocation may be older than it.
		if e, found := i.names[name]; found && !certs.IssuedAt(cert).After(e.At) {
			return &Error{Node: e.Node, At: e.At}
		}
	}
	if len(i.keys) == 0 {
		return nil
	}
	if e, found := i.keys[certs.Hash(cert)]; found {
		return &Error{Node: e.Node, At: e.At}
	}
	return nil
}

// CheckKey returns an *Error if a key (certs.KeyHash) was revoked.
func (l *List) CheckKey(hash string) error {
	if i := l.index.Load(); i != nil {
		if e, found := i.keys[hash]; found {
			return &Error{Node: e.Node, At: e.At}
		}
	}
	return nil
}

// Hold is Check for what lasts, such as a watch or a connection between peers:
// the context ends, with the *Error as its cause, as soon as the certificate is
// refused. The caller calls release when it is done.
func (l *List) Hold(ctx context.Context, cert *x509.Certificate) (held context.Context, release func(), err error) {
	held, cancel := context.WithCancelCause(ctx)
	h := &hold{cert, cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Check(cert); err != nil { // under the lock: Set cannot come in between
		cancel(err)
		return nil, nil, err
	}
	if l.holds == nil {
		l.holds = map[*hold]struct{}{}
	}
	l.holds[h] = struct{}{}
	return held, func() {
		cancel(nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.holds, h)
	}, nil
}

// Verify is Check for the chain of a tls.ConnectionState: it judges the leaf, and
// does not ask for one.
func (l *List) Verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return nil
	}
	return l.Check(chain[0])
}
