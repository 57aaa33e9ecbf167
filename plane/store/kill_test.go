package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

// The environment of a child process that writes until it is killed.
const childDir = "COPEPOD_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const killWriters = 8

// killConfig makes snapshots and cut logs part of a short life.
func killConfig(dir string) store.Config {
	return store.Config{Dir: dir, LogBytes: 32 << 10, Log: slog.New(slog.DiscardHandler)}
}

// writeUntilKilled runs writers that report each acknowledged write on a line
// of its own: "w <writer> <sequence> <revision>", and "c <revision>" for an
// increment of the counter that all share.
func writeUntilKilled(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	st, err := store.Open(killConfig(dir))
	if err != nil {
		return err
	}
	ran := make(chan error, 1)
	go func() { ran <- st.Run(ctx) }()
	select {
	case <-st.Ready():
	case err := <-ran:
		return err
	}
	fmt.Println("ready")
	for w := range killWriters {
		go func() {
			for n := st.Snapshot().Count(fmt.Sprintf("log/%d/", w)); ctx.Err() == nil; n++ {
				if err := writeOnce(ctx, st, w, n); err != nil {
					fmt.Println("error", err)
					return
				}
			}
		}()
	}
	return <-ran
}

// writeOnce adds one more key to the log of a writer, moves its head in the
// same transaction, and increments the shared counter in another.
func writeOnce(ctx context.Context, st *store.Store, w, n int) error {
	value := strings.Repeat("x", 50+n%500)
	res, err := st.Txn(ctx,
		store.Op{Kind: store.Put, Key: fmt.Sprintf("log/%d/%08d", w, n), Value: []byte(value), Expect: store.Absent},
		store.Op{Kind: store.Put, Key: fmt.Sprintf("head/%d", w), Value: fmt.Append(nil, n)})
	if err != nil {
		return err
	}
	fmt.Printf("w %d %d %d\n", w, n, res.Rev)
	count, expect := 0, store.Absent
	if kv := st.Snapshot().Get("counter"); kv != nil {
		fmt.Sscan(string(kv.Value), &count)
		expect = store.Exact(kv.Rev)
	}
	res, err = st.Txn(ctx, store.Op{Kind: store.Put, Key: "counter", Value: fmt.Append(nil, count+1), Expect: expect})
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return nil // another writer was faster
	}
	if err == nil {
		fmt.Printf("c %d\n", res.Rev)
	}
	return err
}

// acknowledged is what children have reported before they were killed.
type acknowledged struct {
	next       [killWriters]int // the sequence after the last one
	increments int
	rev        uint64
}

func TestNothingAcknowledgedIsLostToKill9(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir() + "/store"
	var acked acknowledged
	lives := 0
	for round := range rounds {
		if liveAndDie(t, dir, time.Duration(r.IntN(120))*time.Millisecond, &acked) {
			lives++
		}
		if round%5 == 4 || round == rounds-1 {
			checkSurvivors(t, dir, &acked, round+1)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %d of them under writes, %d writes and %d increments acknowledged, revision %d",
		rounds, lives, sum(acked.next), acked.increments, acked.rev)
}

func sum(all [killWriters]int) (n int) {
	for _, v := range all {
		n += v
	}
	return n
}

// liveAndDie starts a child, kills it after a while and notes what it had
// acknowledged. It reports whether the child got as far as writing.
func liveAndDie(t *testing.T, dir string, after time.Duration, acked *acknowledged) bool {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Skipf("no child processes here: %v", err)
	}
	var once sync.Once
	var killed atomic.Bool
	kill := func() { once.Do(func() { killed.Store(true); child.Process.Kill() }) }
	defer kill()
	timer := time.AfterFunc(after, kill)
	defer timer.Stop()
	wrote := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var w, n int
		var rev uint64
		line := lines.Text()
		switch {
		case line == "ready":
		case scan(line, "w %d %d %d", &w, &n, &rev):
			acked.next[w], acked.rev, wrote = n+1, max(acked.rev, rev), true
		case scan(line, "c %d", &rev):
			acked.increments++
			acked.rev = max(acked.rev, rev)
		case strings.HasPrefix(line, "error") && !killed.Load():
			t.Errorf("child: %s", line)
		}
	}
	child.Wait() // it was killed
	return wrote
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

// checkSurvivors opens what the children left behind.
func checkSurvivors(t *testing.T, dir string, acked *acknowledged, kills int) {
	t.Helper()
	st, stop := storetest.Start(t, killConfig(dir))
	defer stop()
	storetest.WaitReady(t, st)
	s := st.Snapshot()
	if got := uint64(s.Revision()); got < acked.rev {
		t.Errorf("got revision %d, want at least %d", got, acked.rev)
	}
	for w, next := range acked.next {
		have := s.Count(fmt.Sprintf("log/%d/", w))
		// Each kill may hide the acknowledgement of one write of a writer.
		if have < next || have > next+kills {
			t.Errorf("writer %d: got %d writes, want %d that were acknowledged and at most %d more", w, have, next, kills)
		}
		n := 0
		for kv := range s.Range(fmt.Sprintf("log/%d/", w), "") {
			if want := fmt.Sprintf("log/%d/%08d", w, n); kv.Key != want || len(kv.Value) != 50+n%500 {
				t.Fatalf("writer %d: got %q with %d bytes, want %q", w, kv.Key, len(kv.Value), want)
			}
			n++
		}
		if head := s.Get(fmt.Sprintf("head/%d", w)); n > 0 && (head == nil || string(head.Value) != fmt.Sprint(n-1)) {
			t.Errorf("writer %d: got head %v, want %d of the same transaction", w, head, n-1)
		}
	}
	count := 0
	if kv := s.Get("counter"); kv != nil {
		fmt.Sscan(string(kv.Value), &count)
	}
	if count < acked.increments || count > acked.increments+kills*killWriters {
		t.Errorf("got counter %d, want %d that were acknowledged and at most %d more", count, acked.increments, kills*killWriters)
	}
}
