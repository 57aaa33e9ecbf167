package gossip

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"

	"copepod/gossip/gossiptest"
)

// The vectors of c2sp.org/XAES-256-GCM.
func TestSealIsXAES256GCM(t *testing.T) {
	nonce, plain := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
	for _, row := range []struct {
		name, context, want string
		key                 byte
	}{
		{"most significant bit of L clear", "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271", 1},
		{"most significant bit of L set", "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := newSealer(bytes.Repeat([]byte{row.key}, keySize))
			if err != nil {
				t.Fatal(err)
			}
			got := hex.EncodeToString(s.forNonce(nonce).Seal(nil, nonce[12:], plain, []byte(row.context)))
			if got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestSealOpensOnlyWithItsKeyAndContext(t *testing.T) {
	a, _ := newSealer(bytes.Repeat([]byte{1}, keySize))
	b, _ := newSealer(bytes.Repeat([]byte{2}, keySize))
	sealed := a.seal(nil, []byte("news"), "packet")
	if got, err := a.open(sealed, "packet"); string(got) != "news" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := a.open(sealed, "stream"); err == nil {
		t.Error("opens in another context")
	}
	if _, err := b.open(sealed, "packet"); err == nil {
		t.Error("opens with another key")
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if _, err := a.open(damaged, "packet"); err == nil {
			t.Errorf("opens with byte %d damaged", i)
		}
	}
}

func TestMetaOfALaterVersionIsReadWhereItIsKnown(t *testing.T) {
	want := Meta{Role: 7, APIPort: 6443, MeshPort: 7948, Version: "v9", Zone: "z"}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseMeta(append(b, "a new field"...))
	if got != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	full, err := Meta{Version: strings.Repeat("v", MaxVersion), Zone: strings.Repeat("z", MaxZone)}.Encode()
	if len(full) >= MaxMeta || err != nil {
		t.Errorf("the largest has %d bytes, %v; want fewer than %d", len(full), err, MaxMeta)
	}
}

func FuzzParseMeta(f *testing.F) {
	b, _ := Meta{Role: RolePlane, APIPort: 1, Version: "v1", Zone: "z"}.Encode()
	f.Add(b)
	f.Add([]byte{1, 0, 0, 0, 0, 0, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMeta(b)
		if err != nil {
			if !errors.Is(err, ErrMeta) {
				t.Errorf("got %v, want ErrMeta", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("%x reads as %+v, which writes %x, %v", b, m, again, err)
		}
	})
}

// state writes an exchange of states as memberlist does.
func state(t testing.TB, nodes, userLen int, members ...exchanged) []byte {
	var b bytes.Buffer
	b.WriteByte(byte(kindState))
	enc := codec.NewEncoder(&b, &codec.MsgpackHandle{})
	header := struct {
		Nodes, UserStateLen int
		Join                bool
	}{nodes, userLen, true}
	if err := enc.Encode(header); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if err := enc.Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func aMember() exchanged {
	meta, _ := Meta{}.Encode()
	return exchanged{Name: "x", Addr: []byte{10, 0, 0, 9}, Port: 7946, Meta: meta, Incarnation: 1, Vsn: []uint8{1, 5, 2, 0, 0, 0}}
}

func TestStatesThatWouldHarmMemberlistAreMalformed(t *testing.T) {
	with := func(f func(*exchanged)) []byte {
		m := aMember()
		f(&m)
		return state(t, 1, 0, m)
	}
	for _, row := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"a good one", state(t, 1, 0, aMember()), true},
		{"nobody", state(t, 0, 0), true},
		{"more members than announced", state(t, 0, 0, aMember()), false},
		{"fewer members than announced", state(t, 2, 0, aMember()), false},
		{"a million members announced", state(t, 1<<20, 0), false},
		{"fewer than none", state(t, -1, 0), false},
		{"user state", state(t, 0, 1<<30), false},
		{"three versions", with(func(m *exchanged) { m.Vsn = m.Vsn[:3] }), false},
		{"no versions", with(func(m *exchanged) { m.Vsn = nil }), false},
		{"versions that exclude ours", with(func(m *exchanged) { m.Vsn = []uint8{5, 5, 5, 0, 0, 0} }), false},
		{"a name with a line break", with(func(m *exchanged) { m.Name = "a\nb" }), false},
		{"a long meta", with(func(m *exchanged) { m.Meta = make([]byte, MaxMeta+1) }), false},
		{"an unknown state", with(func(m *exchanged) { m.State = 9 }), false},
		{"a user message", []byte{8, 0x81}, false},
		{"compression", []byte{9, 0x81}, false},
		{"nothing", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := checkStream(row.b, 100)
			if (err == nil) != row.ok || err != nil && !errors.Is(err, errMalformed) {
				t.Errorf("got %v, want ok: %v", err, row.ok)
			}
		})
	}
}

// quiet is a running member on a network in memory, and that network.
func quiet(t testing.TB) (*Gossip, *gossiptest.Network) {
	n := gossiptest.New(1)
	g, err := New(Config{
		Name: "n", Transport: n.Transport("n"), Keys: [][]byte{make([]byte, keySize)},
		Log: slog.New(slog.DiscardHandler), MaxMembers: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	<-g.Ready()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return g, n
}

// A peer that has the key may send what it likes: this member goes on.
func FuzzPacketOfAKeyHolder(f *testing.F) {
	f.Add([]byte{byte(kindPing), 0x80})
	f.Add([]byte{byte(kindChecksum), 0, 0, 0, 0, byte(kindAck), 0x80})
	f.Add([]byte{byte(kindCompound), 2, 0, 1, 0, 1, byte(kindAlive), byte(kindDead)})
	f.Add([]byte{9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f', 0xa0})
	f.Add([]byte("\x04\x86\xabIncarnation\x01\xa4Node\xa5other\xa4Addr\xa4\x0a\x00\x00\x09\xa4Port\xcd\x1f\x0a\xa4Meta\xa0\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00"))
	f.Add([]byte("\x05\x83\xabIncarnation\x09\xa4Node\xa1n\xa4From\xa1n"))
	g, n := quiet(f)
	from := netip.MustParseAddrPort("10.0.0.77:7946")
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := g.ring.seal([]byte{sealVersion}, b, packetContext)
		if err := n.Inject("n", from, sealed); err != nil {
			t.Fatal(err)
		}
		if len(g.Members()) > 100 {
			t.Errorf("%d members, more than it has room for", len(g.Members()))
		}
	})
}

func FuzzStreamOfAKeyHolder(f *testing.F) {
	f.Add(state(f, 1, 0, aMember()))
	f.Add(state(f, 1<<30, 1<<30))
	f.Add([]byte{byte(kindPing), 0x80})
	f.Add([]byte{8, 0x81, 0xaa, 'U', 's', 'e', 'r', 'M', 's', 'g', 'L', 'e', 'n', 0xce, 0x7f, 0xff, 0xff, 0xff})
	g, n := quiet(f)
	from := netip.MustParseAddrPort("10.0.0.77:7946")
	f.Fuzz(func(t *testing.T, b []byte) {
		conn, err := n.Connect("n", from)
		if err != nil {
			t.Skip(err) // the listener is busy with the ones before
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		out := &stream{Conn: conn, guard: g.guard, addr: "peer"}
		_, _ = out.Write(b)
		_, _ = conn.Read(make([]byte, 1))
	})
}

func TestSocketsCarryPacketsAndStreams(t *testing.T) {
	any4 := netip.MustParseAddrPort("127.0.0.1:0")
	a, err := listen(any4, any4)
	if err != nil {
		t.Skip("no sockets here: ", err)
	}
	b, err := listen(any4, any4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.WriteToAddress([]byte("news"), memberlist.Address{Addr: b.bound.String()}); err != nil {
		t.Fatal(err)
	}
	if p := <-b.PacketCh(); string(p.Buf) != "news" || p.From.String() != a.bound.String() {
		t.Errorf("got %q from %v", p.Buf, p.From)
	}
	conn, err := a.DialTimeout(b.bound.String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	in := <-b.StreamCh()
	_ = in.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on after its end")
	}
	_ = conn.Close()
	if _, err := a.WriteTo(nil, "localhost:1"); err == nil {
		t.Error("resolves names")
	}
	if err := errors.Join(a.Shutdown(), b.Shutdown()); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", b.bound.String()); err == nil {
		t.Error("still listens")
	}
}
