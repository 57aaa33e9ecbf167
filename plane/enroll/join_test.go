package enroll_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

func TestMachineJoinsAndIsItsNode(t *testing.T) {
	m, req := one.machine(t, "joins", join.RoleNode)
	if m.Name != "joins" || m.Plane() || m.Address != netip.MustParseAddr("127.0.0.1") || m.Cluster != one.ca.Hash() {
		t.Errorf("got membership %+v", m)
	}
	if m.Settings.PodCIDR.String() != "10.42.0.0/16" || len(m.Planes) != 1 || m.Servers()[0] != one.address {
		t.Errorf("got settings %+v, planes %+v", m.Settings, m.Planes)
	}
	me, err := one.as(t, m).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := me.Status.UserInfo; got.Username != "system:node:joins" || strings.Contains(fmt.Sprint(got.Groups), "planes") {
		t.Errorf("the API sees %+v", got)
	}
	serving, err := m.ServingPair()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.ParseCertificate(serving.CertPEM)
	if err != nil || cert.VerifyHostname("127.0.0.1") != nil || cert.VerifyHostname("localhost") == nil {
		t.Errorf("serving certificate: %v, %v", cert, err)
	}
	for _, secret := range []string{"pki/ca.key", "seal/seal.keys", "tokens/sa.key"} {
		if _, err := os.Stat(filepath.Join(req.Dir, secret)); !os.IsNotExist(err) {
			t.Errorf("%s is on a machine that is no plane", secret)
		}
	}
	if _, err := keyfile.Read(filepath.Join(req.Dir, "cluster.json")); err != nil {
		t.Error(err)
	}
}

func TestSameLineAgainFindsTheMembership(t *testing.T) {
	m, req := one.machine(t, "again", join.RoleNode)
	again, err := enroll.Join(t.Context(), req) // the token is used up
	if err != nil || again.Name != m.Name || !again.Joined.Equal(m.Joined) {
		t.Errorf("got %+v, %v, want %+v", again, err, m)
	}
	loaded, err := enroll.Load(req.Dir)
	if err != nil || loaded.Cluster != m.Cluster {
		t.Errorf("got %+v, %v", loaded, err)
	}
}

func TestPlaneGetsTheKeysOfTheCluster(t *testing.T) {
	m, req := one.machine(t, "second-plane", join.RolePlane)
	if !m.Plane() {
		t.Error("is not a plane")
	}
	for _, name := range []string{"pki/ca.key", "pki/ca.crt", "seal/seal.keys", "tokens/sa.key"} {
		got, err1 := os.ReadFile(filepath.Join(req.Dir, name))
		want, err2 := os.ReadFile(filepath.Join(one.dir, name))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not the cluster's: %v", name, err)
		}
	}
	changed, err := m.Renewer(enroll.RenewerConfig{Version: release}).PlaneKeys(t.Context())
	if err != nil || changed {
		t.Errorf("keys again: got %t, %v, want them unchanged", changed, err)
	}
	node, _ := one.machine(t, "no-plane", join.RoleNode)
	_, err = node.Renewer(enroll.RenewerConfig{Version: release}).PlaneKeys(t.Context())
	wantCode(t, err, enroll.CodeStranger)
}

// wantCode checks why the plane refused, and that it says what to do.
func wantCode(t *testing.T, err error, want enroll.Code) {
	t.Helper()
	var refusal *enroll.Refusal
	if !errors.As(err, &refusal) || refusal.Code != want {
		t.Errorf("got %v, want a refusal with code %s", err, want)
	}
}

func TestEveryWrongInputSaysWhatToDo(t *testing.T) {
	other, err := certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, _, err := join.New(join.Spec{Pin: other.Hash(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	unknown, _, err := join.New(join.Spec{Pin: one.ca.Hash(), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	spent := one.token(t, join.Spec{})
	if _, err := enroll.Join(t.Context(), one.request(t, "spends", spent)); err != nil {
		t.Fatal(err)
	}
	deleted := one.token(t, join.Spec{})
	if err := enroll.DeleteToken(t.Context(), one, deleted); err != nil {
		t.Fatal(err)
	}
	living, _ := one.machine(t, "living", join.RoleNode)
	one.register(t, living)
	good := one.token(t, join.Spec{Uses: 100})
	mine := func(change func(*enroll.Request)) enroll.Request {
		req := one.request(t, "wrong", good)
		change(&req)
		return req
	}
	for name, tt := range map[string]struct {
		req  enroll.Request
		want string
	}{
		"no token":          {mine(func(r *enroll.Request) { r.Token = "" }), "not a join token"},
		"mistyped":          {mine(func(r *enroll.Request) { r.Token = good[:30] + "x" + good[31:] + "y" }), "mistyped or cut"},
		"another cluster's": {mine(func(r *enroll.Request) { r.Token = elsewhere.String() }), "the server's CA is not the one in the join token"},
		"unknown":           {mine(func(r *enroll.Request) { r.Token = unknown.String() }), "not known to this cluster"},
		"deleted":           {mine(func(r *enroll.Request) { r.Token = deleted }), "not known to this cluster"},
		"used up":           {mine(func(r *enroll.Request) { r.Token = spent }), "used up"},
		"expired": {mine(func(r *enroll.Request) {
			r.Token = one.token(t, join.Spec{TTL: time.Minute, Now: time.Now().Add(-time.Hour)})
		}), "has expired"},
		"name of a node that lives": {mine(func(r *enroll.Request) { r.Name = "living" }), "copepod node revoke living"},
		"name of a plane":           {mine(func(r *enroll.Request) { r.Name = "plane-1" }), "is taken by a machine"},
		"name of one that is away":  {mine(func(r *enroll.Request) { r.Name = "spends" }), "whose certificate is good until"},
		"name with capitals":        {mine(func(r *enroll.Request) { r.Name = "Node_1" }), "--node-name"},
		"long name":                 {mine(func(r *enroll.Request) { r.Name = strings.Repeat("n", 64) }), "more than 63 characters"},
		"newer version":             {mine(func(r *enroll.Request) { r.Version = "v0.5.0" }), "install v0.3.1 there"},
		"other major version":       {mine(func(r *enroll.Request) { r.Version = "v1.3.0" }), "install v0.3.1 there"},
		"nonsense for a version":    {mine(func(r *enroll.Request) { r.Version = "new" }), "is not a version"},
		"address with a path":       {mine(func(r *enroll.Request) { r.Server = "1.2.3.4:6443/join" }), "is not HOST or HOST:PORT"},
		"nobody there":              {mine(func(r *enroll.Request) { r.Server = "127.0.0.1:1" }), "cannot be reached"},
		"address that is not ours":  {mine(func(r *enroll.Request) { r.Bind = netip.MustParseAddr("192.0.2.1") }), "from 192.0.2.1"},
		"directory of another cluster": {mine(func(r *enroll.Request) {
			m, _ := one.machine(t, "has-another", join.RoleNode)
			m.Cluster = other.Hash()
			if err := m.Save(); err != nil {
				t.Fatal(err)
			}
			r.Dir = filepath.Dir(m.TrustDir())
		}), "belongs to another cluster"},
		"directory of its own cluster": {mine(func(r *enroll.Request) {
			if _, err := certs.LoadOrCreateCA(filepath.Join(r.Dir, "pki")); err != nil {
				t.Fatal(err)
			}
		}), "holds a cluster of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := enroll.Join(t.Context(), tt.req)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	rec, err := enroll.Tokens(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rec {
		if strings.Contains(good, r.ID) && r.Used != 0 {
			t.Errorf("refused requests took %d uses of the token", r.Used)
		}
	}
}

func TestOneUseGivesOneMachine(t *testing.T) {
	tok := one.token(t, join.Spec{})
	var joined atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		req := one.request(t, fmt.Sprint("racer-", i), tok)
		wg.Go(func() {
			_, err := enroll.Join(t.Context(), req)
			if err == nil {
				joined.Add(1)
				return
			}
			wantCode(t, err, enroll.CodeUsedUp)
		})
	}
	wg.Wait()
	if got := joined.Load(); got != 1 {
		t.Errorf("%d machines joined with one use", got)
	}
}

func TestManyMachinesShareAToken(t *testing.T) {
	tok := one.token(t, join.Spec{Uses: 8})
	var wg sync.WaitGroup
	for i := range 8 {
		req := one.request(t, fmt.Sprint("sharer-", i), tok)
		wg.Go(func() {
			if _, err := enroll.Join(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := enroll.Join(t.Context(), one.request(t, "sharer-late", tok))
	wantCode(t, err, enroll.CodeUsedUp)
}

func TestLostAnswerCostsNoSecondUse(t *testing.T) {
	_, req := one.machine(t, "unlucky", join.RoleNode)
	// The machine never got the answer: all it has is the key that it made.
	for _, name := range []string{"cluster.json", "node/client.crt", "node/serving.crt", "pki/ca.crt"} {
		if err := os.Remove(filepath.Join(req.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := enroll.Join(t.Context(), req); err != nil {
		t.Errorf("got %v, want a membership with the same use of the token", err)
	}
}

func TestPlaneThatIsElectingALeaderIsAskedAgain(t *testing.T) {
	unavailable := &enroll.Refusal{Code: enroll.CodeUnavailable}
	if !unavailable.Passes() || (&enroll.Refusal{Code: enroll.CodeUsedUp}).Passes() {
		t.Error("the wrong refusals pass")
	}
}
