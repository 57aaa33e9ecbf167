package quorum

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const long = time.Hour

// read makes replicas of words: a name and marks.
//
//   - leads      v  voter     n  non-voter    j  not yet joined
//     d  dead       l  lost for a moment         h  healthy for a moment only
//     x  may not vote            f  failing for long, though it answers
//     u  the plane knows it no longer            m  moved to another address
func read(words string) []replica {
	var all []replica
	for _, w := range strings.Fields(words) {
		name, marks, _ := strings.Cut(w, ":")
		r := replica{id: name, address: name + "@1", wanted: name + "@1", known: true, alive: true, eligible: true, healthyFor: long}
		for _, m := range marks {
			switch m {
			case '*':
				r.leads = true
			case 'v':
				r.joined, r.voter = true, true
			case 'n':
				r.joined = true
			case 'j':
				r.address = ""
			case 'd':
				r.alive, r.healthyFor, r.unhealthyFor, r.lostFor = false, 0, long, long
			case 'l':
				r.alive, r.healthyFor, r.unhealthyFor, r.lostFor = false, 0, 1, 1
			case 'h':
				r.healthyFor = 1
			case 'x':
				r.eligible = false
			case 'f':
				r.healthyFor, r.unhealthyFor = 0, long
			case 'u':
				r.known, r.alive, r.eligible, r.wanted, r.lostFor = false, false, false, "", long
			case 'm':
				r.wanted = name + "@2"
			}
		}
		all = append(all, r)
	}
	return all
}

func write(steps []step) string {
	var out []string
	for _, s := range steps {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", s.do, s.id)))
	}
	return strings.Join(out, ", ")
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters int
		all    string
		want   string
	}{
		{"one is enough alone", 3, "a:*v", ""},
		{"who is new follows", 3, "a:*v b:j c:j", "add b, add c"},
		{"two members have one vote", 3, "a:*v b:n", ""},
		{"votes come in pairs", 3, "a:*v b:n c:n", "promote b, promote c"},
		{"who is new waits until it is stable", 3, "a:*v b:n c:nh", ""},
		{"who may not vote gets none", 3, "a:*v b:n c:nx", ""},
		{"a fourth gets no vote", 3, "a:*v b:v c:v d:n", ""},
		{"five when five are wanted", 5, "a:*v b:v c:v d:n e:n", "promote d, promote e"},
		{"four make three", 5, "a:*v b:v c:v d:n", ""},
		{"an even wish is one less", 4, "a:*v b:v c:v d:n e:n", ""},
		{"a dead voter is replaced", 3, "a:*v b:vd c:v d:n", "remove b, promote d"},
		{"a voter that is away for a moment is not", 3, "a:*v b:vl c:v d:n", ""},
		{"one dead of three stays when nobody can replace it", 3, "a:*v b:vd c:v", ""},
		{"two dead of five make room", 5, "a:*v b:vd c:v d:vd e:v", "remove b, remove d"},
		{"one dead of five stays", 5, "a:*v b:vd c:v d:v e:v", ""},
		{"who has lost its disk is demoted after its substitute votes", 3, "a:*v b:vf c:v d:n", "promote d, demote b"},
		{"who may no longer vote is replaced", 3, "a:*v b:vx c:v d:n", "promote d, demote b"},
		{"who leads and may no longer vote hands over", 3, "a:*vx b:v c:v d:n", "promote d, transfer"},
		{"and is demoted by the next", 3, "a:vx b:*v c:v d:v", "demote a"},
		{"fewer are wanted", 3, "a:*v b:v c:v d:v e:v", "demote e, demote d"},
		{"a promotion that was cut short is completed", 3, "a:*v b:v c:n", "promote c"},
		{"or taken back", 3, "a:*v b:v", "demote b"},
		{"a replacement that was cut short is completed", 3, "a:*v c:v d:n", "promote d"},
		{"an even number with a dead one loses it", 3, "a:*v b:vd c:v d:v", "remove b"},
		{"a follower that is lost is removed", 3, "a:*v b:nd", "remove b"},
		{"a follower that was put out is removed", 3, "a:*v b:nu", "remove b"},
		{"a voter that was put out is replaced", 3, "a:*v b:vu c:v d:n", "remove b, promote d"},
		{"who has moved is told apart", 3, "a:*v b:vm", "readdress b"},
		{"nothing is done while the list is not loaded", 3, "a:*vu b:nu", ""},
		{"nothing is done without a leader", 3, "a:v b:nd", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := write(plan(limits{voters: c.voters, stable: 5 * time.Second, dead: 30 * time.Second}, read(c.all)))
			if got != c.want {
				t.Errorf("%s: got %q, want %q", c.all, got, c.want)
			}
		})
	}
}

func TestAddressIsTakenOverFromTheLostOnly(t *testing.T) {
	for _, c := range []struct{ all, want string }{
		{"a:*v b:nl c:j", "remove b"},
		{"a:*v b:n c:j", ""},
		{"a:*v b:vl d:v c:j", ""},
		{"a:*v b:vd d:v c:j", "remove b"},
	} {
		all := read(c.all)
		all[len(all)-1].wanted = "b@1"
		if got := write(plan(limits{voters: 3, stable: time.Second, dead: 30 * time.Second}, all)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.all, got, c.want)
		}
	}
}

// Whatever the members are, a plan ends with an odd number of votes, or one
// step nearer to it, and never takes the last.
func TestPlansKeepAMajority(t *testing.T) {
	marks := []string{"v", "n", "vd", "nd", "vx", "nx", "vf", "j", "vl", "nh", "vu"}
	var try func(words string, left int)
	try = func(words string, left int) {
		if left == 0 {
			for _, voters := range []int{1, 3, 5} {
				checkMajority(t, voters, words)
			}
			return
		}
		for _, m := range marks {
			try(fmt.Sprintf("%s %c:%s", words, 'a'+left, m), left-1)
		}
	}
	for n := range 5 {
		try("z:*v", n)
	}
}

func checkMajority(t *testing.T, voters int, words string) {
	t.Helper()
	all := read(words)
	votes, living := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		if r.voter {
			votes[r.id] = true
		}
		living[r.id] = r.lostFor == 0
	}
	majority := func() bool {
		n := 0
		for id := range votes {
			if living[id] {
				n++
			}
		}
		return n > len(votes)/2
	}
	had := majority()
	steps := plan(limits{voters: voters, stable: 5 * time.Second, dead: 30 * time.Second}, all)
	for _, s := range steps {
		switch s.do {
		case promote:
			votes[s.id] = true
		case demote, remove:
			delete(votes, s.id)
		}
		if len(votes) == 0 || had && !majority() {
			t.Fatalf("%s with %d voters: %q leaves no majority", words, voters, write(steps))
		}
	}
}
