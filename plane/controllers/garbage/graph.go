package garbage

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
)

// ident is one object: what it is called and which of that name it is.
type ident struct {
	resource schema.GroupResource
	key      types.NamespacedName
	uid      types.UID
}

// meta is all that the collector keeps of an object.
type meta struct {
	ident
	owners []metav1.OwnerReference
	// deleting objects go on their own; nobody needs to delete them again.
	deleting bool
	// orphans and foreground are the finalizers by which a deletion asks that
	// dependents be kept, or be deleted first.
	orphans, foreground bool
}

func project(gr schema.GroupResource) func(api.Object) (*meta, bool) {
	return func(o api.Object) (*meta, bool) {
		return &meta{
			ident: ident{gr, api.Key(o), o.GetUID()}, owners: o.GetOwnerReferences(), deleting: o.GetDeletionTimestamp() != nil,
			orphans:    slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents),
			foreground: slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents),
		}, true
	}
}

// graph is who depends on whom, by the owner's UID.
type graph struct {
	mu    sync.Mutex // guards what follows
	lives map[types.UID]map[ident]*meta
	dying map[types.UID]map[ident]*meta // apart: an owner of thousands looks at the living ones only
}

func newGraph() *graph {
	return &graph{lives: map[types.UID]map[ident]*meta{}, dying: map[types.UID]map[ident]*meta{}}
}

func (g *graph) side(m *meta) map[types.UID]map[ident]*meta {
	if m.deleting {
		return g.dying
	}
	return g.lives
}

func (g *graph) insert(m *meta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	side := g.side(m)
	for _, ref := range m.owners {
		if side[ref.UID] == nil {
			side[ref.UID] = map[ident]*meta{}
		}
		side[ref.UID][m.ident] = m
	}
}

func (g *graph) remove(m *meta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	side := g.side(m)
	for _, ref := range m.owners {
		delete(side[ref.UID], m.ident)
		if len(side[ref.UID]) == 0 {
			delete(side, ref.UID)
		}
	}
}

// has tells whether anything depends on an owner.
func (g *graph) has(owner types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lives[owner]) > 0 || len(g.dying[owner]) > 0
}

// living is the dependents that nobody has deleted yet.
func (g *graph) living(owner types.UID) []*meta {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*meta, 0, len(g.lives[owner]))
	for _, m := range g.lives[owner] {
		list = append(list, m)
	}
	return list
}

// blocked tells whether a dependent that blocks its owner's deletion is left.
func (g *graph) blocked(owner types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, side := range []map[ident]*meta{g.lives[owner], g.dying[owner]} {
		for _, m := range side {
			if m.blocks(owner) {
				return true
			}
		}
	}
	return false
}

func (m *meta) blocks(owner types.UID) bool {
	return slices.ContainsFunc(m.owners, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
	})
}
