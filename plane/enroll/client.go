package enroll

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
)

const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
	maxAnswer     = 1 << 20
)

// A contact is one connection to an API server that was verified.
type contact struct {
	conn   *tls.Conn
	server string // host:port, as dialled
}

// connect reaches a server. local is the address to come from; zero: the
// kernel's choice.
func connect(ctx context.Context, server string, local netip.Addr, config *tls.Config) (*contact, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if local.IsValid() && !local.IsUnspecified() {
		dialer.LocalAddr = &net.TCPAddr{IP: local.AsSlice(), Zone: local.Zone()}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, explainDial(server, local, err)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, explainHandshake(server, err)
	}
	return &contact{conn, server}, nil
}

func (c *contact) close() { _ = c.conn.Close() }

// address is where the server sees us, if nothing translates addresses.
func (c *contact) address() netip.Addr {
	tcp, ok := c.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// ask sends one request and reads its answer into out. A refusal is a *Refusal.
func (c *contact) ask(ctx context.Context, method, path string, in, out any) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return fmt.Errorf("server %s: %w", c.server, err)
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.server+path, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	if err := req.Write(c.conn); err != nil {
		return c.lost(ctx, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c.conn, maxAnswer)), req)
	if err != nil {
		return c.lost(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.lost(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusalOf(c.server, resp.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("server %s: its answer cannot be read (%w): run the same copepod version here as on the cluster", c.server, err)
	}
	return nil
}

func (c *contact) lost(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("server %s: the connection broke off: %w; try again", c.server, err)
}

func refusalOf(server string, status int, data []byte) error {
	var r Refusal
	if json.Unmarshal(data, &r) == nil && r.Code != "" && r.Message != "" {
		return &r
	}
	if status == http.StatusNotFound {
		return fmt.Errorf("server %s: it takes no machines in: run the same copepod version there as here", server)
	}
	return fmt.Errorf("server %s: answered %d %s", server, status, http.StatusText(status))
}

func explainDial(server string, local netip.Addr, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return fmt.Errorf("server %s: the name cannot be found: %w; give the address that `copepod token create` printed", server, err)
	}
	from := ""
	if local.IsValid() {
		from = fmt.Sprintf(" from %s", local)
	}
	return fmt.Errorf("server %s cannot be reached%s: %w; check the address, that copepod runs there with a --bind that others can reach (not 127.0.0.1), and that no firewall is in between", server, from, err)
}

func explainHandshake(server string, err error) error {
	var clock *join.ClockError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, join.ErrPin), errors.As(err, &clock):
		return fmt.Errorf("server %s: %w", server, err)
	case errors.As(err, &record):
		return fmt.Errorf("server %s does not speak TLS: give the port of the API, which `copepod token create` printed", server)
	}
	return fmt.Errorf("server %s: no TLS connection: %w", server, err)
}

// ParseServer reads HOST, HOST:PORT, or the URL of an API server, as a person
// gives it, and returns host:port.
func ParseServer(s string) (string, error) {
	s = strings.TrimSpace(s)
	text := strings.TrimSuffix(strings.TrimPrefix(s, "https://"), "/")
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return addrPort(addr, DefaultPort), nil
	}
	if !strings.Contains(text, ":") {
		text = fmt.Sprintf("%s:%d", text, DefaultPort)
	}
	host, portText, err := net.SplitHostPort(text)
	if err == nil && (host == "" || strings.ContainsAny(host, "/@ ")) {
		err = errors.New("no host")
	}
	var n int
	if err == nil {
		n, err = net.LookupPort("tcp", portText)
	}
	if err != nil || n == 0 {
		return "", fmt.Errorf("server %.100q is not HOST or HOST:PORT, as 192.0.2.7:6443", s)
	}
	return net.JoinHostPort(host, fmt.Sprint(n)), nil
}

// memberTLS is how a member talks to any API server: by the cluster's CA and the
// API's own name, with its certificate.
func memberTLS(roots *x509.CertPool, pair certs.Pair) (*tls.Config, error) {
	cert, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: certs.APIName,
		// Sent even when it has expired: the key is what counts for a renewal.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}, nil
}
