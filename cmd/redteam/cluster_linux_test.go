package redteam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"copepod/cmd"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

// The ports of config.yaml.
const (
	apiPort    = 6443
	gossipPort = 7946
	peerPort   = 7947
	meshPort   = 7948
	nodePort   = 10250
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

// victim is the cluster that all tests attack: n1 and n2 hold the plane, n3 is a
// node.
var victim *cluster

type cluster struct {
	dir        string
	prefix     [3]byte // of the addresses
	n1, n2, n3 *machine
	ca         *certs.CA
	admin      *rest.Config
	client     *kubernetes.Clientset
}

type machine struct {
	name string
	addr netip.Addr
	dir  string
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when the process has ended
}

// output is what a process printed.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestMain(m *testing.M) {
	// The machines are this binary under other arguments, built as the tests are.
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		defaults, err := os.ReadFile(filepath.Join("..", "..", "config.yaml"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(cmd.Main(defaults, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	c, err := start()
	if err == nil {
		victim = c
		code = m.Run()
		err = c.stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return code
}

// start runs the machines as README does.
func start() (c *cluster, err error) {
	dir, err := os.MkdirTemp("", "redteam")
	if err != nil {
		return nil, err
	}
	c = &cluster{dir: dir}
	defer func() {
		if err != nil {
			_ = c.stop()
		}
	}()
	if err := c.choose(); err != nil {
		return c, err
	}
	if c.n1, err = c.machine("n1", 1, "up"); err != nil {
		return c, err
	}
	if c.ca, err = certs.LoadOrCreateCA(filepath.Join(c.n1.dir, "pki")); err != nil {
		return c, err
	}
	if c.admin, err = clientcmd.BuildConfigFromFlags("", filepath.Join(c.n1.dir, "kubeconfig")); err != nil {
		return c, err
	}
	c.admin.QPS = -1
	if c.client, err = kubernetes.NewForConfig(c.admin); err != nil {
		return c, err
	}
	for _, row := range []struct {
		to   **machine
		name string
		host byte
		role join.Role
	}{{&c.n2, "n2", 2, join.RolePlane}, {&c.n3, "n3", 3, join.RoleNode}} {
		tok, err := c.token(context.Background(), join.Spec{Role: row.role})
		if err != nil {
			return c, err
		}
		if *row.to, err = c.machine(row.name, row.host, "join", c.n1.at(apiPort), "--token", tok.String()); err != nil {
			return c, err
		}
	}
	return c, c.settled()
}

// choose finds a network of addresses that nobody listens on.
func (c *cluster) choose() error {
	for i := range 200 {
		c.prefix = [3]byte{127, byte(100 + (os.Getpid()+i)%100), byte(os.Getpid() / 100)}
		l, err := net.Listen("tcp", net.JoinHostPort(c.addr(1).String(), fmt.Sprint(apiPort)))
		if err == nil {
			return l.Close()
		}
	}
	return errors.New("no address of 127.0.0.0/8 is free")
}

// addr is an address of the cluster's network. From 100 on they are attackers'.
func (c *cluster) addr(host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{c.prefix[0], c.prefix[1], c.prefix[2], host})
}

func (m *machine) at(port uint16) string { return netip.AddrPortFrom(m.addr, port).String() }

// machine starts one and waits until it is ready.
func (c *cluster) machine(name string, host byte, args ...string) (*machine, error) {
	m := &machine{name: name, addr: c.addr(host), dir: filepath.Join(c.dir, name), out: &output{}, done: make(chan struct{})}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m.cmd = exec.Command(self, append(args, "--bind", m.addr.String(), "--node-name", name, "--data-dir", m.dir)...)
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait()
		close(m.done)
	}()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(m.out.String(), "Ctrl-C stops") {
			return m, nil
		}
		select {
		case <-m.done:
			return m, fmt.Errorf("%s ended: %s", name, m.out)
		default:
		}
	}
	return m, fmt.Errorf("%s does not become ready: %s", name, m.out)
}

func (c *cluster) machines() []*machine {
	var all []*machine
	for _, m := range []*machine{c.n1, c.n2, c.n3} {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

// stop ends the machines. A data race or a panic in one of them is an error.
func (c *cluster) stop() error {
	var errs []error
	for _, m := range c.machines() {
		select {
		case <-m.done:
			errs = append(errs, fmt.Errorf("%s had ended: %s", m.name, m.out))
		default:
			_ = m.cmd.Process.Kill() // what it had to show, it has shown
			<-m.done
		}
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(m.out.String(), bad) {
				errs = append(errs, fmt.Errorf("%s: %s", m.name, m.out))
				break
			}
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

func (c *cluster) token(ctx context.Context, spec join.Spec) (join.Token, error) {
	spec.Pin, spec.Now = c.ca.Hash(), time.Now()
	tok, _, err := enroll.CreateToken(ctx, c.client, spec)
	return tok, err
}

// as is a client of the API at a machine under a certificate.
func (c *cluster) as(m *machine, pair certs.Pair) *rest.Config {
	return &rest.Config{
		Host: "https://" + m.at(apiPort), QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: c.ca.PEM(), CertData: pair.CertPEM, KeyData: pair.KeyPEM, ServerName: certs.APIName,
		},
	}
}

// at is the administrator's client at a machine.
func (c *cluster) at(m *machine) *rest.Config {
	cfg := rest.CopyConfig(c.admin)
	cfg.Host, cfg.ServerName = "https://"+m.at(apiPort), certs.APIName
	return cfg
}
