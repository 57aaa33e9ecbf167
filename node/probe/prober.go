package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Dialer reaches a port of a pod. *vnet.Net is one.
type Dialer interface {
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Execer runs a command in the container.
type Execer interface {
	Exec(ctx context.Context, argv []string, output io.Writer) (code int, err error)
}

// Target is the container that is asked.
type Target struct {
	IP        netip.Addr
	Container *v1.Container
	Exec      Execer // nil: exec probes cannot be asked
}

// ErrUnsupported says that a probe cannot be asked of this container.
var ErrUnsupported = errors.New("not supported for WebAssembly containers; use httpGet or tcpSocket")

// Bounds on what a guest can make the node read.
const (
	maxBody    = 10 << 10
	maxHeaders = 64 << 10
)

// Prober asks. It may be used by many goroutines at once.
type Prober struct {
	dialer Dialer
	client *http.Client
}

// New makes a prober that reaches pods through the dialer, and nothing else:
// a probe cannot be pointed at the node or at the world.
func New(d Dialer) *Prober {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return d.Dial(ctx, to)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
		// A probe asks whether the container serves, not who it is: its
		// certificate is not checked, as Kubernetes has it.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}
	return &Prober{dialer: d, client: &http.Client{Transport: transport, CheckRedirect: sameHost}}
}

// errRedirected ends a chain of redirects that leaves the pod.
var errRedirected = errors.New("redirect to another host")

func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return fmt.Errorf("stopped after %d redirects: %w", len(via), errRedirected)
	}
	return nil
}

// Run asks once, within the probe's timeout. The message says what was wrong; it
// is empty after a plain success.
func (p *Prober) Run(ctx context.Context, t Target, spec *v1.Probe) (Outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, Timeout(spec))
	defer cancel()
	switch {
	case spec.HTTPGet != nil:
		return p.http(ctx, t, spec.HTTPGet)
	case spec.TCPSocket != nil:
		return p.tcp(ctx, t, spec.TCPSocket)
	case spec.Exec != nil:
		return execute(ctx, t, spec.Exec.Command, Timeout(spec))
	case spec.GRPC != nil:
		return Unknown, fmt.Sprintf("grpc probes: %v", ErrUnsupported)
	}
	return Unknown, "the probe has no handler"
}

// Get asks once over HTTP for a lifecycle hook; any answer will do.
func (p *Prober) Get(ctx context.Context, t Target, action *v1.HTTPGetAction) error {
	req, err := request(ctx, t, action)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (p *Prober) http(ctx context.Context, t Target, action *v1.HTTPGetAction) (Outcome, string) {
	req, err := request(ctx, t, action)
	if err != nil {
		return Unknown, err.Error()
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return Failure, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.CopyN(io.Discard, resp.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
		return Failure, err.Error()
	}
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return Success, ""
}

func request(ctx context.Context, t Target, action *v1.HTTPGetAction) (*http.Request, error) {
	port, err := Port(action.Port, t.Container)
	if err != nil {
		return nil, err
	}
	host, err := t.host(action.Host)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(action.Path)
	if err != nil {
		u = &url.URL{Path: action.Path} // a path that is no URL is taken as it is
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	u.Scheme, u.Host, u.User = "http", netip.AddrPortFrom(host, port).String(), nil
	if action.Scheme != "" {
		u.Scheme = strings.ToLower(string(action.Scheme))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range action.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	if req.Header.Values("User-Agent") == nil {
		req.Header.Set("User-Agent", "kube-probe/1.37")
	}
	if req.Header.Values("Accept") == nil {
		req.Header.Set("Accept", "*/*")
	}
	return req, nil
}

// host is the address to ask. A probe may name the pod's own address or its
// loopback; any other host would turn the node into a scanner of its network.
func (t Target) host(name string) (netip.Addr, error) {
	if name == "" || name == "localhost" {
		return t.IP, nil
	}
	ip, err := netip.ParseAddr(name)
	if err == nil && (ip == t.IP || ip.IsLoopback()) {
		return t.IP, nil
	}
	return netip.Addr{}, fmt.Errorf("host %q is not the pod's: probes reach only the pod itself", name)
}

func (p *Prober) tcp(ctx context.Context, t Target, action *v1.TCPSocketAction) (Outcome, string) {
	port, err := Port(action.Port, t.Container)
	if err != nil {
		return Unknown, err.Error()
	}
	host, err := t.host(action.Host)
	if err != nil {
		return Unknown, err.Error()
	}
	conn, err := p.dialer.Dial(ctx, netip.AddrPortFrom(host, port))
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close()
	return Success, ""
}

func execute(ctx context.Context, t Target, argv []string, timeout time.Duration) (Outcome, string) {
	if t.Exec == nil || len(argv) == 0 {
		return Unknown, fmt.Sprintf("exec probes: %v", ErrUnsupported)
	}
	out := &bounded{left: maxBody}
	code, err := t.Exec.Exec(ctx, argv, out)
	switch {
	case ctx.Err() != nil:
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(argv, " "), timeout)
	case err != nil:
		return Unknown, err.Error()
	case code != 0:
		return Failure, out.String()
	}
	return Success, ""
}

// bounded keeps the first bytes that are written to it.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.left)]
	b.left -= len(keep)
	_, _ = b.Buffer.Write(keep)
	return len(p), nil
}

// Port is the number of a port that is given by number or by a name that the
// container declares.
func Port(p intstr.IntOrString, c *v1.Container) (uint16, error) {
	if p.Type == intstr.Int {
		if p.IntVal < 1 || p.IntVal > 65535 {
			return 0, fmt.Errorf("port %d: want 1 to 65535", p.IntVal)
		}
		return uint16(p.IntVal), nil
	}
	for i := range c.Ports {
		if c.Ports[i].Name == p.StrVal {
			return uint16(c.Ports[i].ContainerPort), nil //nolint:gosec // validated by the API
		}
	}
	if n, err := strconv.ParseUint(p.StrVal, 10, 16); err == nil && n > 0 {
		return uint16(n), nil
	}
	return 0, fmt.Errorf("couldn't find port: %q", p.StrVal)
}
