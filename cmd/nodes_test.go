package cmd

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/cmd/config"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

func TestVerbsOfAClusterSayWhatIsMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	tok, _, err := join.New(join.Spec{Pin: "sha256:" + strings.Repeat("0", 64), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"token", "create"}, "no kubeconfig"},
		{[]string{"token", "create", "--uses", "0"}, "more than zero"},
		{[]string{"token", "list"}, "no kubeconfig"},
		{[]string{"token", "delete"}, "requires at least 1 arg"},
		{[]string{"token", "creat"}, "unknown command"},
		{[]string{"node", "list"}, "no kubeconfig"},
		{[]string{"node", "leave"}, "no kubeconfig"},
		{[]string{"node", "revoke"}, "accepts 1 arg"},
		{[]string{"join", "127.0.0.1"}, "--token is missing"},
		{[]string{"join", "--token", tok.String()}, "accepts 1 arg"},
		{[]string{"join", "127.0.0.1", "--token", "cpd1.x"}, "not a join token"},
		{[]string{"join", "127.0.0.1:1", "--token", tok.String()}, "cannot be reached"},
	} {
		args := tt.args
		if !strings.Contains(tt.want, "unknown command") {
			args = append(args, "--data-dir", dir)
		}
		code, out, errs := command(t, args...)
		if code == 0 || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: code %d, output %q, error %q, want %q", tt.args, code, out, errs, tt.want)
		}
	}
}

func TestMachinesAreListedWithAndWithoutANode(t *testing.T) {
	now := time.Now()
	nodes := []corev1.Node{{
		ObjectMeta: metav1.ObjectMeta{
			Name: "m1", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)), Annotations: map[string]string{enroll.AnnotationRaft: "voter"},
		},
		Spec: corev1.NodeSpec{Unschedulable: true},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1"},
		},
	}, {ObjectMeta: metav1.ObjectMeta{Name: "z", CreationTimestamp: metav1.NewTime(now.Add(-time.Minute))}}}
	known := map[string]enroll.Identity{
		"m1": {Name: "m1", Role: join.RolePlane, Address: netip.MustParseAddr("192.0.2.1")},
		"w1": {Name: "w1", Role: join.RoleNode, Address: netip.MustParseAddr("192.0.2.2"), Joined: now.Add(-time.Minute), Release: "v2"},
	}
	var got []string
	for _, r := range machineRows(nodes, known, now) {
		got = append(got, strings.Join(r, " "))
	}
	want := "m1 Ready,SchedulingDisabled plane voter 192.0.2.1 v1 60m\nw1 NotRegistered node - 192.0.2.2 v2 60s\nz Unknown - - - - 60s"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestMemberListensWhereTheClusterKnowsIt(t *testing.T) {
	for _, tt := range []struct{ bind, address, want string }{
		{"127.0.0.1", "192.0.2.7", "192.0.2.7"}, // the default, and a cluster elsewhere
		{"127.0.0.1", "127.0.0.3", "127.0.0.3"},
		{"0.0.0.0", "192.0.2.7", "0.0.0.0"},
	} {
		m := &enroll.Membership{Name: "n1", Address: netip.MustParseAddr(tt.address)}
		got, err := settledAs(config.Config{Bind: netip.MustParseAddr(tt.bind)}, m)
		if err != nil || got.Bind.String() != tt.want || got.Node.Name != "n1" {
			t.Errorf("%s as %s: got %s and %v, want %s", tt.bind, tt.address, got.Bind, err, tt.want)
		}
	}
	cfg := config.Config{Bind: netip.MustParseAddr("192.0.2.9")}
	if _, err := settledAs(cfg, &enroll.Membership{Name: "n1", Address: netip.MustParseAddr("192.0.2.7")}); err == nil {
		t.Error("another address than the one that it joined with: got no error")
	}
}

func TestServersOnThisMachineAreKnownByTheirAddress(t *testing.T) {
	for server, want := range map[string]bool{"localhost": true, "127.0.0.1:7": true, "[::1]:7": true, "192.0.2.7": false, "": false} {
		if got := onLoopback(server); got != want {
			t.Errorf("%q: got %t", server, got)
		}
	}
}
