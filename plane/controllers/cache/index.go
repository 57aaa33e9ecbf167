package cache

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Index finds the values of a cache by something other than their key.
type Index[K comparable, T any] struct {
	of func(T) []K

	mu     sync.RWMutex // guards what follows
	groups map[K]map[types.NamespacedName]T
}

// NewIndex adds an index to a cache; call it before the cache runs. of names the
// groups that a value belongs to.
func NewIndex[K comparable, T any](c *Cache[T], of func(T) []K) *Index[K, T] {
	ix := &Index[K, T]{of: of, groups: map[K]map[types.NamespacedName]T{}}
	c.Derive(ix.step)
	return ix
}

func (ix *Index[K, T]) step(ch Change[T]) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ch.HadOld {
		for _, k := range ix.of(ch.Old) {
			delete(ix.groups[k], ch.Key)
			if len(ix.groups[k]) == 0 {
				delete(ix.groups, k)
			}
		}
	}
	if ch.HasNew {
		for _, k := range ix.of(ch.New) {
			if ix.groups[k] == nil {
				ix.groups[k] = map[types.NamespacedName]T{}
			}
			ix.groups[k][ch.Key] = ch.New
		}
	}
}

// List is the values of group k, in no order.
func (ix *Index[K, T]) List(k K) []T {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	list := make([]T, 0, len(ix.groups[k]))
	for _, v := range ix.groups[k] {
		list = append(list, v)
	}
	return list
}

// Keys is the keys of group k, in no order.
func (ix *Index[K, T]) Keys(k K) []types.NamespacedName {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	list := make([]types.NamespacedName, 0, len(ix.groups[k]))
	for key := range ix.groups[k] {
		list = append(list, key)
	}
	return list
}

// Len is the size of group k.
func (ix *Index[K, T]) Len(k K) int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return len(ix.groups[k])
}
