package auditlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func event(user, uri string) *auditinternal.Event {
	return &auditinternal.Event{
		Level: auditinternal.LevelMetadata, AuditID: "id", Stage: auditinternal.StageResponseComplete,
		RequestURI: uri, Verb: "create", User: authenticationv1.UserInfo{Username: user},
	}
}

// lines reads a file of events.
func lines(t *testing.T, r io.Reader) []auditv1.Event {
	t.Helper()
	var list []auditv1.Event
	for s := bufio.NewScanner(r); s.Scan(); {
		var e auditv1.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("line %q: %v", s.Text(), err)
		}
		list = append(list, e)
	}
	return list
}

func TestLinesAreEventsInAFileForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "audit.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil { //nolint:gosec // that is what is mended
		t.Fatal(err)
	}
	l, err := New(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(nil); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if !l.ProcessEvents(event("alice", "/api/v1/namespaces")) {
			t.Fatal("got an event refused")
		}
	}
	l.Shutdown()
	l.Shutdown() // may be called again
	if l.ProcessEvents(event("late", "/")) && len(l.queue) == 0 {
		t.Error("got an event taken and written after the end")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := lines(t, f)
	if len(got) != 1000 || got[0].Kind != "Event" || got[0].APIVersion != "audit.k8s.io/v1" || got[0].User.Username != "alice" {
		t.Errorf("got %d lines, first %+v", len(got), got[0])
	}
}

// stuck is a disk that takes nothing until it is let go.
type stuck struct {
	mu    sync.Mutex
	let   chan struct{}
	taken bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken.Write(p)
}

func (s *stuck) Close() error { return nil }

func TestAStalledDiskHoldsNobodyUpForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuck{let: make(chan struct{})}
		l, err := New(Config{Queue: 2, out: disk})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Run(nil); err != nil {
			t.Fatal(err)
		}
		l.ProcessEvents(event("a", "/"))
		synctest.Wait() // the writer holds it
		for range 2 {
			l.ProcessEvents(event("a", "/"))
		}
		begin := time.Now()
		if l.ProcessEvents(event("a", "/")) {
			t.Error("got a line taken for which there is no place")
		}
		if waited := time.Since(begin); waited != patience {
			t.Errorf("got %v waited, want %v", waited, patience)
		}
		if got := testutil.ToFloat64(l.dropped.WithLabelValues("queue")); got != 1 {
			t.Errorf("got %v lines counted as missing, want 1", got)
		}
		close(disk.let)
		l.Shutdown()
		if got := len(lines(t, &disk.taken)); got != 3 {
			t.Errorf("got %d lines, want 3", got)
		}
	})
}

func TestStrangersCannotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuck{let: make(chan struct{})}
		close(disk.let)
		l, err := New(Config{out: disk})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Run(nil); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			l.ProcessEvents(event("", "/api"))
		}
		l.ProcessEvents(event("alice", "/api"))
		l.Shutdown()
		if got := len(lines(t, &disk.taken)); got != strangerBurst+1 {
			t.Errorf("got %d lines, want %d", got, strangerBurst+1)
		}
	})
}

func TestWhatCallersChooseIsBoundedAndHidesTokens(t *testing.T) {
	long := event("a", "/api?x="+strings.Repeat("y", 1<<20))
	long.UserAgent = strings.Repeat("z", 1<<20)
	if got := trim(long); len(got.RequestURI) > maxURI+4 || len(got.UserAgent) > maxAgent+4 || len(long.RequestURI) < 1<<20 {
		t.Errorf("got %d and %d bytes", len(got.RequestURI), len(got.UserAgent))
	}
	for _, uri := range []string{"/api?access_token=secret", "/api?a=b&access_token=secret", "/api?access_token=secret&bad=%zz", "/api?TOKEN=secret"} {
		if got := trim(event("a", uri)).RequestURI; strings.Contains(got, "secret") {
			t.Errorf("got %s", got)
		}
	}
	if got := trim(event("a", "/api/v1/pods?limit=500&continue=abc")).RequestURI; got != "/api/v1/pods?limit=500&continue=abc" {
		t.Errorf("got %s changed", got)
	}
}

func TestPolicyRecordsWritesSecretsAndStrangers(t *testing.T) {
	policy := (&Log{}).Policy()
	alice := &user.DefaultInfo{Name: "alice", Groups: []string{"system:authenticated"}}
	node := &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}
	none := (*user.DefaultInfo)(nil)
	on := func(verb, group, resource, sub string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, ResourceRequest: true, Namespace: "default", Name: "x"}
	}
	for _, row := range []struct {
		name  string
		who   *user.DefaultInfo
		attrs authorizer.AttributesRecord
		want  auditinternal.Level
	}{
		{"a write", alice, on("patch", "apps", "deployments", ""), auditinternal.LevelMetadata},
		{"a read", alice, on("list", "", "pods", ""), auditinternal.LevelNone},
		{"a secret read", alice, on("get", "", "secrets", ""), auditinternal.LevelMetadata},
		{"a secret written: no body", alice, on("create", "", "secrets", ""), auditinternal.LevelMetadata},
		{"a token", node, on("create", "", "serviceaccounts", "token"), auditinternal.LevelMetadata},
		{"a heartbeat", node, on("update", "coordination.k8s.io", "leases", ""), auditinternal.LevelNone},
		{"a pod's status by its node", node, on("update", "", "pods", "status"), auditinternal.LevelNone},
		{"a pod's status by a person", alice, on("update", "", "pods", "status"), auditinternal.LevelMetadata},
		{"an event", node, on("create", "", "events", ""), auditinternal.LevelNone},
		{"an eviction", alice, on("create", "", "pods", "eviction"), auditinternal.LevelMetadata},
		{"a read by nobody", none, on("list", "", "pods", ""), auditinternal.LevelMetadata},
		{"health", alice, authorizer.AttributesRecord{Verb: "get", Path: "/readyz"}, auditinternal.LevelNone},
	} {
		if row.who != nil {
			row.attrs.User = row.who
		}
		got := policy.EvaluatePolicyRule(row.attrs)
		if got.Level != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got.Level, row.want)
		}
		if got.Level == auditinternal.LevelMetadata && (len(got.OmitStages) != 1 || got.OmitStages[0] != auditinternal.StageRequestReceived) {
			t.Errorf("%s: got stages %v left out", row.name, got.OmitStages)
		}
	}
}
