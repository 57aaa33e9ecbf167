package wasi

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

// nowhere is a network that reaches nothing, so that a fuzzed call does not
// reach anyone.
type nowhere struct{}

func (nowhere) Listen(context.Context, string, string) (net.Listener, error) {
	return newPipeListener(), nil
}

func (nowhere) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, syscall.EHOSTUNREACH
}

func (nowhere) Resolve(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{localhost}, nil
}

// Whatever a guest passes, a call answers an errno or ends the guest. The input
// is a sequence of calls, and what lies in memory.
func FuzzHostCalls(f *testing.F) {
	names := make([]string, 0, len(functions))
	for name := range functions {
		names = append(names, name)
	}
	for name := range dialects {
		if _, both := functions[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i := range names {
		f.Add([]byte{byte(i), 3, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255}, []byte("file\x00dir/../x"))
		f.Add([]byte{byte(i), 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0}, []byte{16, 0, 0, 0, 255, 255, 0, 0})
	}
	f.Fuzz(func(t *testing.T, script, memory []byte) {
		dir := t.TempDir()
		fill(t, dir, "file", "dir/", "dir/x")
		fill(t, dir, "ro/", "ro/y")
		g := newGuest(t, Config{
			Args: []string{"a"}, Env: []string{"K=V"}, Network: nowhere{},
			Mounts: []Mount{
				{Guest: "/", Host: dir}, {Guest: "/ro", Host: filepath.Join(dir, "ro"), ReadOnly: true},
				{Guest: "/etc/f", Host: filepath.Join(dir, "file"), ReadOnly: true},
			},
			Listeners: []Listener{{Listener: newPipeListener()}},
		})
		time.AfterFunc(200*time.Millisecond, g.system.Interrupt)
		g.mod.Memory().Write(0, memory[:min(len(memory), 1<<16)])
		for calls := 0; len(script) > 0 && calls < 16; calls++ {
			name := names[int(script[0])%len(names)]
			script = script[1:]
			function, ok := functions[name]
			if !ok {
				function = dialects[name][0]
			}
			args := make([]uint64, len(function.params))
			for i := range args {
				var b [4]byte
				script = script[copy(b[:], script):]
				args[i] = uint64(binary.LittleEndian.Uint32(b[:]))
			}
			if !g.survives(t, function, name, args) {
				return
			}
		}
	})
}

// survives makes one call past the wrappers, so that both dialects are reached.
func (g *guest) survives(t *testing.T, f function, name string, args []uint64) (alive bool) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *sys.ExitError:
			alive = false
		default:
			t.Fatalf("%s%v: %v", name, args, p)
		}
	}()
	stack := append(slices.Clone(args), 0)
	f.host(name).Call(g.ctx, g.mod, stack)
	if f.void {
		t.Errorf("%s returned", name)
	}
	if e := errno(stack[0]); e > errNameService {
		t.Errorf("%s%v: got errno %d", name, args, e)
	}
	return true
}
