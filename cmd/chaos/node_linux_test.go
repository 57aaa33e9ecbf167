package chaos

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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// node is one machine of the cluster: a host, and the process on it.
type node struct {
	name   string // of the host's directory and of the Node
	binary string
	addr   netip.Addr
	dir    string
	host   *host
	disk   *disk // nil: the test's own
	client *kubernetes.Clientset

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	out    *console
	dead   chan struct{} // closed when the process has ended
	killed bool          // by us, so it may be dead
}

// The ports lie a thousand beyond the defaults, so that nobody's own cluster is hit.
const (
	apiPort    = 7443
	planePort  = 8947
	gossipPort = 8946
	meshPort   = 8948
	nodePort   = 11250
)

func (n *node) settings() []string {
	args := []string{"--bind", n.addr.String(), "--data-dir", n.dir, "--node-name", n.name}
	for flag, port := range map[string]int{"api": apiPort, "plane": planePort, "gossip": gossipPort, "network-mesh": meshPort, "node": nodePort} {
		args = append(args, "--"+flag+"-port", strconv.Itoa(port))
	}
	return args
}

// console keeps what a process says, and tells when it says that it is ready.
type console struct {
	mu    sync.Mutex
	all   bytes.Buffer
	ready chan struct{}
	said  bool
}

func (o *console) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all.Write(p)
	if !o.said && bytes.Contains(o.all.Bytes(), []byte("Ctrl-C")) {
		o.said = true
		close(o.ready)
	}
	return len(p), nil
}

func (o *console) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// start runs `copepod VERB…` as the node's process, unless that runs already:
// two faults at once may have killed it.
func (n *node) start(verb ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead != nil && n.alive() {
		return nil
	}
	n.out = &console{ready: make(chan struct{})}
	n.cmd = exec.Command(n.binary, append(verb, n.settings()...)...)
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	n.cmd.Env = append(os.Environ(), "HOME="+n.dir, "GOTRACEBACK=all")
	if err := n.host.start(n.cmd); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.killed, n.dead = false, make(chan struct{})
	go func(cmd *exec.Cmd, dead chan struct{}) {
		_ = cmd.Wait()
		close(dead)
	}(n.cmd, n.dead)
	return nil
}

// greeting waits until the process says that it is ready.
func (n *node) greeting(patience time.Duration) error {
	n.mu.Lock()
	out, dead := n.out, n.dead
	n.mu.Unlock()
	select {
	case <-out.ready:
		return nil
	case <-dead:
		return fmt.Errorf("%s ended:\n%s", n.name, out)
	case <-time.After(patience):
		return fmt.Errorf("%s is not ready after %v:\n%s", n.name, patience, out)
	}
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive()
}

// alive is running, for who holds the lock.
func (n *node) alive() bool {
	select {
	case <-n.dead:
		return false
	default:
		return true
	}
}

// kill ends the process as a loss of power does, and waits until it is gone.
func (n *node) kill() {
	n.mu.Lock()
	n.killed = true
	cmd, dead := n.cmd, n.dead
	n.mu.Unlock()
	_ = cmd.Process.Kill()
	<-dead
}

func (n *node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.cmd.Process.Signal(s)
}

// copepod runs a verb of the binary on the node's host, in a directory.
func (n *node) copepod(dir string, args ...string) (string, error) {
	var out, bad bytes.Buffer
	c := exec.Command(n.binary, append(args, "--data-dir", n.dir)...)
	c.Dir, c.Stdout, c.Stderr = dir, &out, &bad
	if err := n.host.start(c); err != nil {
		return "", err
	}
	alarm := time.AfterFunc(2*time.Minute, func() { _ = c.Process.Kill() })
	defer alarm.Stop()
	if err := c.Wait(); err != nil {
		return "", fmt.Errorf("copepod %s: %w\n%s%s", args, err, &out, &bad)
	}
	return strings.TrimSpace(out.String()), nil
}

// file reads what the node has in its data directory.
func (n *node) file(name string) ([]byte, error) {
	var data []byte
	err := n.host.on(func() (err error) {
		data, err = os.ReadFile(filepath.Join(n.dir, name))
		return err
	})
	return data, err
}

// config is the way to the API of this node.
func (n *node) config() (*rest.Config, error) {
	data, err := n.file("kubeconfig")
	if err != nil {
		return nil, err
	}
	c, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, err
	}
	c.QPS = -1
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.host.dial(ctx, network, address)
	}
	return c, nil
}

// connect makes the client, once the process has written its kubeconfig.
func (n *node) connect() error {
	c, err := n.config()
	if err != nil {
		return err
	}
	n.client, err = kubernetes.NewForConfig(c)
	return err
}

// dump has the process say where all its goroutines are, and end.
func (n *node) dump() string {
	n.mu.Lock()
	cmd, out, dead := n.cmd, n.out, n.dead
	n.mu.Unlock()
	_ = cmd.Process.Signal(syscall.SIGCONT)
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-dead:
	case <-time.After(10 * time.Second):
	}
	return out.String()
}

// save copies the node's logs to dir.
func (n *node) save(dir string) error {
	log, err := n.file("logs/copepod.log")
	return errors.Join(err, os.WriteFile(filepath.Join(dir, n.name+".log"), log, 0o600),
		os.WriteFile(filepath.Join(dir, n.name+".out"), []byte(n.out.String()), 0o600))
}
