package pods

import (
	"log/slog"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
)

// Book is the cache of pods with its groups.
type Book struct {
	*cache.Cache[*Pod]

	mu      sync.RWMutex // guards what follows
	owned   map[types.UID]*family
	onNode  map[string]set
	labeled byLabels
	strays  byLabels // those of labeled that have no controller
}

type set map[*Pod]struct{}

// byLabels is namespace → labels → pods.
type byLabels map[string]map[Labels]set

// Tally is the totals of one owner's pods.
type Tally struct {
	// Active pods are neither finished nor being deleted; Ready of them are ready.
	Active, Ready int
	// Terminating pods are being deleted and have not finished.
	Terminating int
	// Present is every pod that still exists and has not finished.
	Present int
	// Labels counts active pods by their labels: one entry for each template.
	Labels map[Labels]int
}

type family struct {
	pods  set
	tally Tally
}

// New builds a book over source; it is empty until Run.
func New(source api.Source, log *slog.Logger) *Book {
	b := &Book{
		Cache: cache.New(cache.Config[*Pod]{Source: source, Resource: api.Pods, Project: Project, Doomed: doomed, Log: log}),
		owned: map[types.UID]*family{}, onNode: map[string]set{}, labeled: byLabels{}, strays: byLabels{},
	}
	b.Derive(func(ch cache.Change[*Pod]) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ch.HadOld {
			b.remove(ch.Old)
		}
		if ch.HasNew {
			b.insert(ch.New)
		}
	})
	return b
}

func (b *Book) insert(p *Pod) {
	if uid := p.Owner().UID; uid != "" {
		f := b.owned[uid]
		if f == nil {
			f = &family{pods: set{}, tally: Tally{Labels: map[Labels]int{}}}
			b.owned[uid] = f
		}
		f.pods[p] = struct{}{}
		f.tally.count(p, 1)
	}
	if p.Node != "" {
		if b.onNode[p.Node] == nil {
			b.onNode[p.Node] = set{}
		}
		b.onNode[p.Node][p] = struct{}{}
	}
	b.labeled.insert(p)
	if p.Owner().UID == "" {
		b.strays.insert(p)
	}
}

func (b *Book) remove(p *Pod) {
	if f := b.owned[p.Owner().UID]; f != nil {
		delete(f.pods, p)
		f.tally.count(p, -1)
		if len(f.pods) == 0 {
			delete(b.owned, p.Owner().UID)
		}
	}
	if p.Node != "" {
		delete(b.onNode[p.Node], p)
		if len(b.onNode[p.Node]) == 0 {
			delete(b.onNode, p.Node)
		}
	}
	b.labeled.remove(p)
	if p.Owner().UID == "" {
		b.strays.remove(p)
	}
}

func (g byLabels) insert(p *Pod) {
	ns := g[p.Key.Namespace]
	if ns == nil {
		ns = map[Labels]set{}
		g[p.Key.Namespace] = ns
	}
	if ns[p.Labels] == nil {
		ns[p.Labels] = set{}
	}
	ns[p.Labels][p] = struct{}{}
}

func (g byLabels) remove(p *Pod) {
	ns := g[p.Key.Namespace]
	delete(ns[p.Labels], p)
	if len(ns[p.Labels]) == 0 {
		delete(ns, p.Labels)
	}
	if len(ns) == 0 {
		delete(g, p.Key.Namespace)
	}
}

// matching costs one match for each distinct set of labels, not for each pod.
func (g byLabels) matching(namespace string, sel labels.Selector) []*Pod {
	var list []*Pod
	for l, pods := range g[namespace] {
		if sel.Matches(l) {
			list = pods.list(list)
		}
	}
	return list
}

func (t *Tally) count(p *Pod, by int) {
	if p.Terminal() {
		return
	}
	t.Present += by
	if p.Deleting {
		t.Terminating += by
		return
	}
	t.Active += by
	if p.Ready {
		t.Ready += by
	}
	if t.Labels[p.Labels] += by; t.Labels[p.Labels] == 0 {
		delete(t.Labels, p.Labels)
	}
}

// Count is the totals of the pods whose controller has this UID.
func (b *Book) Count(uid types.UID) Tally {
	b.mu.RLock()
	defer b.mu.RUnlock()
	f := b.owned[uid]
	if f == nil {
		return Tally{}
	}
	t := f.tally
	t.Labels = make(map[Labels]int, len(f.tally.Labels))
	for l, n := range f.tally.Labels {
		t.Labels[l] = n
	}
	return t
}

// Owned is the pods whose controller has this UID, in no order.
func (b *Book) Owned(uid types.UID) []*Pod {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if f := b.owned[uid]; f != nil {
		return f.pods.list(nil)
	}
	return nil
}

// OnNode is the pods bound to a node, in no order.
func (b *Book) OnNode(node string) []*Pod {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.onNode[node].list(nil)
}

// Matching is the pods of a namespace that a selector matches, in no order.
func (b *Book) Matching(namespace string, sel labels.Selector) []*Pod {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.labeled.matching(namespace, sel)
}

// Strays is the pods that Matching would find and that have no controller.
func (b *Book) Strays(namespace string, sel labels.Selector) []*Pod {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.strays.matching(namespace, sel)
}

func (s set) list(list []*Pod) []*Pod {
	for p := range s {
		list = append(list, p)
	}
	return list
}
