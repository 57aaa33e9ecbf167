package apiserver

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/union"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token"
	"copepod/plane/kubestore"
)

// Config of a Server. Fields without a default are required.
type Config struct {
	// Store keeps the objects. Whoever hands it in runs it.
	Store *kubestore.K
	// Health tells why storage cannot be relied on, nil if it can. /readyz shows it.
	Health func() error
	// Leader tells why nobody takes writes right now, nil if somebody does. Nil:
	// not asked.
	Leader func() error

	// Listener accepts connections; the Server closes it. If it has a method
	// Know(remote string), it hears of connections whose callers proved who they
	// are.
	Listener net.Listener
	// Serving is the pair that the Server shows. It is asked again every minute,
	// so that a rotated one comes into use.
	Serving func() certs.Pair
	// ServingChanged has its argument called when Serving has another pair, so
	// that it comes into use at once. Nil: it does within a minute.
	ServingChanged func(func())
	// Clients signs the certificates by which clients prove who they are.
	Clients *x509.CertPool
	// ClientsPEM is the same, as it is told to TLS clients and in config maps.
	ClientsPEM []byte
	// Node is the pair that the Server shows to node servers. Nil: no pod logs.
	Node func() certs.Pair
	// Advertise is where members of the cluster reach this server. Zero: the
	// listener's address.
	Advertise netip.AddrPort
	// Peers are the other servers of the cluster, as they advertise themselves.
	// Nil: there are none.
	Peers func() []netip.AddrPort

	// Issuer signs service account tokens and knows which are good. Nil: no tokens.
	Issuer *token.Issuer
	// Authorizers are asked before RBAC, in this order.
	Authorizers []union.NamedAuthorizer

	// Front sees every request first, before authentication, limits and audit, and
	// hands on what is not its own. Nil: there is none.
	Front func(http.Handler) http.Handler

	// Paths are further handlers, behind authentication, authorization (as
	// non-resource URLs) and audit. They may take as long as their client does.
	Paths map[string]http.Handler

	// ServiceAddresses is the range of cluster IPs; zero: 10.43.0.0/16.
	ServiceAddresses netip.Prefix
	// UnreachableSeconds is the default toleration of lost nodes; zero: 2.
	UnreachableSeconds int64

	// Version is our own, as v1.2.3; empty: that of the build.
	Version string
	// Audit and AuditPolicy take a record of requests; nil: none.
	Audit       audit.Backend
	AuditPolicy audit.PolicyRuleEvaluator
	// Metrics is shown at /metrics beside the API's own. Nil: nothing beside.
	Metrics prometheus.Gatherer
	// Registerer receives the metrics copepod_api_*. Nil: none.
	Registerer prometheus.Registerer
	Log        *slog.Logger

	// MaxReads and MaxWrites bound the requests that are handled at once, watches
	// aside; more get 429. Zero: 800 and 400.
	MaxReads, MaxWrites int
	// RequestTimeout ends requests, watches and logs aside. Zero: a minute.
	RequestTimeout time.Duration
	// ShutdownTimeout is how long open requests may take after the end of Run's
	// context. Zero: 2 seconds.
	ShutdownTimeout time.Duration
}

// check completes the config, or says what is missing.
func (c *Config) check() error {
	switch {
	case c.Store == nil:
		return errors.New("apiserver: config: Store is nil")
	case c.Listener == nil:
		return errors.New("apiserver: config: Listener is nil")
	case c.Serving == nil:
		return errors.New("apiserver: config: Serving is nil")
	case c.Clients == nil || len(c.ClientsPEM) == 0:
		return errors.New("apiserver: config: Clients or ClientsPEM is empty: nobody could prove who they are")
	}
	if !c.Advertise.IsValid() {
		addr, ok := c.Listener.Addr().(*net.TCPAddr)
		if !ok {
			return errors.New("apiserver: config: Advertise is empty and the listener has no TCP address")
		}
		c.Advertise = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))
	}
	if c.Advertise.Addr().IsUnspecified() {
		return fmt.Errorf("apiserver: config: Advertise is %s: others need an address that leads here", c.Advertise)
	}
	if c.Health == nil {
		c.Health = func() error { return nil }
	}
	c.Log = cmp.Or(c.Log, slog.Default()).With("part", "apiserver")
	c.MaxReads = cmp.Or(c.MaxReads, 800)
	c.MaxWrites = cmp.Or(c.MaxWrites, 400)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, time.Minute)
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, 2*time.Second)
	return nil
}

// background gives work that belongs to no request a bounded time.
func background(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 30*time.Second)
}
