package garbage

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestDependentsFateFollowsItsOwners(t *testing.T) {
	for _, row := range []struct {
		name          string
		owners        []standing
		dependents    bool
		orphans, fore bool
		want          string
	}{
		{"one that stands", []standing{solid}, false, false, false, "stays"},
		{"one that is gone", []standing{absent}, false, false, false, "Background"},
		{"two that are gone", []standing{absent, absent}, true, false, false, "Background"},
		{"one stands, one is gone", []standing{solid, absent}, false, false, false, "detach [1]"},
		{"one stands, one waits", []standing{solid, waiting}, true, false, false, "detach [1]"},
		{"one waits", []standing{waiting}, false, false, false, "Background"},
		{"one waits for a tree", []standing{waiting}, true, false, false, "Foreground"},
		{"gone, and it asked to keep its dependents", []standing{absent}, true, true, false, "Orphan"},
		{"gone, and it asked to go after its dependents", []standing{absent}, false, false, true, "Foreground"},
		{"none", nil, false, false, false, "stays"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := &meta{orphans: row.orphans, foreground: row.fore}
			by := map[types.UID]standing{}
			for i, s := range row.owners {
				uid := types.UID(fmt.Sprint(i))
				m.owners = append(m.owners, metav1.OwnerReference{UID: uid})
				by[uid] = s
			}
			f := judge(m, func(ref metav1.OwnerReference) standing { return by[ref.UID] }, row.dependents)
			got := "stays"
			switch {
			case f.remove:
				got = string(f.policy)
			case len(f.detach) > 0:
				got = fmt.Sprint("detach ", f.detach)
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestGraphKnowsWhatBlocksAnOwner(t *testing.T) {
	yes := true
	g := newGraph()
	loose := &meta{ident: ident{uid: "loose"}, owners: []metav1.OwnerReference{{UID: "o"}}}
	tight := &meta{ident: ident{uid: "tight"}, owners: []metav1.OwnerReference{{UID: "o", BlockOwnerDeletion: &yes}}, deleting: true}
	g.insert(loose)
	if g.blocked("o") || !g.has("o") {
		t.Errorf("got blocked=%v has=%v with a loose dependent, want false, true", g.blocked("o"), g.has("o"))
	}
	g.insert(tight)
	if !g.blocked("o") || len(g.living("o")) != 1 {
		t.Errorf("got blocked=%v and %d living, want a dependent that is going to block", g.blocked("o"), len(g.living("o")))
	}
	g.remove(tight)
	g.remove(loose)
	if g.blocked("o") || g.has("o") {
		t.Error("got dependents left after all were removed")
	}
}
