package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"copepod/cmd/build"
	"copepod/registry"
	"copepod/wasmrt"
	"copepod/wasmrt/compile"
)

// localRun is what `run --local` was told: one module in a pod's sandbox, with
// this terminal for its streams, and no cluster.
type localRun struct {
	on      bool
	dirs    []string // HOST[::GUEST][:ro]
	listen  []string // [HOST]:PORT
	memory  string   // a quantity; empty: the runtime's default
	network bool
	trace   bool
	invoke  string // a function to call in place of _start
}

// Flags of `run` that mean something only with --local, and only without it.
var (
	localFlags   = []string{"dir", "invoke", "listen", "memory", "net", "trace"}
	clusterFlags = []string{"name", "namespace", "port", "replicas", "kubeconfig", "timeout"}
)

func (l *localRun) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&l.on, "local", false, "run it here, without a cluster: its streams and exit code are this command's")
	f.StringArrayVar(&l.dirs, "dir", nil, "with --local: directory or file that the program sees, HOST[::GUEST], and :ro if it may not write; may be repeated")
	f.StringVar(&l.invoke, "invoke", "", "with --local: call this exported function in place of the program's main, with ARGS for its numbers, and print what it returns")
	f.StringArrayVar(&l.listen, "listen", nil, "with --local: [HOST]:PORT, open as the next file descriptor from 3 on (LISTEN_FDS); HOST is 127.0.0.1 unless given; may be repeated")
	f.StringVar(&l.memory, "memory", "", "with --local: most memory that it may have, as 64Mi (default 4Gi)")
	f.BoolVar(&l.network, "net", false, "with --local: let it open sockets of its own on this machine's network")
	f.BoolVar(&l.trace, "trace", false, "with --local: write a line to standard error for each call that it makes to the host, as strace does")
	c.Example += "\n  copepod run --local app.wasm --dir ./data::/data --env DEBUG=1 -- --verbose input.txt" +
		"\n  copepod run --local --invoke add lib.wasm 2 3"
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w; what is meant for the program goes after --", err)
	})
}

// check refuses flags of the other way to run.
func (l *localRun) check(f *pflag.FlagSet) error {
	wrong, why := localFlags, "works only with --local"
	if l.on {
		wrong, why = clusterFlags, "works only without --local"
	}
	for _, name := range wrong {
		if f.Changed(name) {
			return fmt.Errorf("--%s %s", name, why)
		}
	}
	if f.Changed("invoke") && f.Changed("listen") {
		return errors.New("--listen works only without --invoke: a function that is called begins with no sockets")
	}
	return nil
}

// local runs args[0] with the rest of args until it ends, or ctx does.
func (a *app) local(ctx context.Context, dataDir string, args, env []string, l localRun) error {
	program, err := l.program(env)
	if err != nil {
		return err
	}
	if program.Listeners, err = a.openListeners(l.listen); err != nil {
		return err
	}
	defer closeListeners(program.Listeners)
	if err := makeDataDir(dataDir); err != nil {
		return err
	}
	code, name, err := a.localModule(ctx, dataDir, args[0])
	if err != nil {
		return interrupted(ctx, err)
	}
	program.Name, program.Args = name, append([]string{name}, args[1:]...)
	program.Stdin, program.Stdout, program.Stderr = a.in, a.out, a.err
	program.Terminal = a.terminals()
	if l.trace {
		program.Trace = a.err
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	compiler, err := compile.Self(compileVerb)
	if err != nil {
		return err
	}
	host, err := wasmrt.New(ctx, wasmrt.Config{CacheDir: filepath.Join(dataDir, "cache"), Compiler: compiler, Log: log})
	if err != nil {
		return err
	}
	defer func() { _ = host.Close(ctx) }() // the process ends: what is left goes with it
	module, err := host.Load(ctx, code)
	if err != nil {
		return interrupted(ctx, fmt.Errorf("%s: %w", args[0], err))
	}
	if l.invoke != "" {
		program.Args = program.Args[:1] // the rest is the function's
		return a.invoke(ctx, host, module, program, l.invoke, args[1:])
	}
	instance, err := host.Start(ctx, module, program)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer context.AfterFunc(ctx, instance.Kill)()
	exit, err := instance.Wait(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	return exitOf(ctx, name, exit)
}

// exitOf makes the end of the program the end of this one.
func exitOf(ctx context.Context, name string, exit wasmrt.Exit) error {
	const most = 255 // systems keep the low byte only, and 256 must not become success
	code := int(min(exit.Code, most))
	switch exit.Reason {
	case wasmrt.Completed:
		return nil
	case wasmrt.Error:
		return &exitError{code: code}
	case wasmrt.Killed: // nobody else kills it
		return &exitError{code: signalCode(ctx)}
	}
	return &exitError{code: code, err: fmt.Errorf("%s: %s", name, exit.Message)}
}

// interrupted is err, unless it came of a signal, of which there is nothing to say.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{code: signalCode(ctx)}
	}
	return err
}

// localModule finds or builds what is to run. The name is the last element of
// the source's: a program need not learn where it lies.
func (a *app) localModule(ctx context.Context, dataDir, source string) (code []byte, name string, err error) {
	if isSource(source) {
		if name, err = filepath.Abs(source); err != nil {
			return nil, "", err
		}
		code, err = build.Module(ctx, source, a.err)
		return code, filepath.Base(name), err
	}
	ref, err := registry.ParseReference(source)
	if err != nil {
		return nil, "", err
	}
	store, err := registry.Open(imagesPath(dataDir))
	if err != nil {
		return nil, "", err
	}
	image, err := store.Resolve(ctx, source)
	if err != nil {
		return nil, "", fmt.Errorf("%w: neither a file nor an image of the local store; `copepod images` lists those, `copepod pull` fetches one", err)
	}
	code, err = store.Module(ctx, image.Digest)
	return code, path.Base(ref.Repository), err
}

// program is what the flags say of the guest's world, listeners aside.
func (l *localRun) program(env []string) (p wasmrt.Program, err error) {
	if l.memory != "" {
		q, err := resource.ParseQuantity(l.memory)
		if err != nil || q.Sign() <= 0 {
			return p, fmt.Errorf("--memory %q: want a quantity of Kubernetes, as 64Mi", l.memory)
		}
		p.MemoryLimit = q.Value()
	}
	if l.network {
		p.Network = hostNetwork{}
	}
	if p.Env, err = localEnvironment(env, os.LookupEnv); err != nil {
		return p, err
	}
	for _, dir := range l.dirs {
		m, err := parseMount(dir)
		if err != nil {
			return p, fmt.Errorf("--dir %q: %w", dir, err)
		}
		p.Mounts = append(p.Mounts, m)
	}
	return p, nil
}

// parseMount reads HOST[::GUEST][:ro]. Without GUEST the program finds it under
// the path that the user wrote; relative paths of a guest begin at its root.
func parseMount(s string) (wasmrt.Mount, error) {
	rest, readOnly := strings.CutSuffix(s, ":ro")
	host, guest, named := strings.Cut(rest, "::")
	if !named {
		guest = filepath.ToSlash(host)
	}
	if host == "" || guest == "" {
		return wasmrt.Mount{}, fmt.Errorf("want HOST, HOST::GUEST, or either with :ro")
	}
	if guest = path.Clean(guest); guest == ".." || strings.HasPrefix(guest, "../") {
		return wasmrt.Mount{}, fmt.Errorf("there is nothing above the program's root; say where it finds it, as %s::/data", host)
	}
	return wasmrt.Mount{Host: host, Guest: path.Join("/", guest), ReadOnly: readOnly}, nil
}

// localEnvironment is the guest's environment: NAME=VALUE, and NAME for what
// lookup knows, if it does. The last of one name wins.
func localEnvironment(pairs []string, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	for _, kv := range pairs {
		name, _, given := strings.Cut(kv, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE, or NAME to hand on this shell's", kv)
		}
		if !given {
			value, set := lookup(name)
			if !set {
				continue
			}
			kv = name + "=" + value
		}
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		env = append(env, kv)
	}
	return env, nil
}

// openListeners opens the sockets that the guest begins with. A port that the
// system chose is told: nobody could know it otherwise.
func (a *app) openListeners(addrs []string) (open []wasmrt.Listener, err error) {
	defer func() {
		if err != nil {
			closeListeners(open)
		}
	}()
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return open, fmt.Errorf("--listen %q: want HOST:PORT, or :PORT for 127.0.0.1", addr)
		}
		if host == "" {
			host = "127.0.0.1"
		}
		l, err := listen(net.JoinHostPort(host, port), "listen")
		if err != nil {
			return open, err
		}
		open = append(open, wasmrt.Listener{Listener: l})
		if port == "0" {
			if _, err := fmt.Fprintf(a.err, "listening on %s\n", l.Addr()); err != nil {
				return open, err
			}
		}
	}
	return open, nil
}

func closeListeners(open []wasmrt.Listener) {
	for _, l := range open {
		_ = l.Close() // twice does no harm: the guest closes its own
	}
}

// hostNetwork is this machine's network, for a guest whose user allows it.
type hostNetwork struct{}

func (hostNetwork) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, network, addr)
}

func (hostNetwork) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	var c net.ListenConfig
	return c.ListenPacket(ctx, network, addr)
}

func (hostNetwork) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func (hostNetwork) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, err
}
