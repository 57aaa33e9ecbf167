package cache_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/looptest"
)

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": value}}
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

func newCache(source api.Source) *cache.Cache[*corev1.ConfigMap] {
	return cache.New(cache.Config[*corev1.ConfigMap]{
		Source: source, Resource: api.ConfigMaps, Project: cache.As[*corev1.ConfigMap],
		Doomed: func(m *corev1.ConfigMap) *corev1.ConfigMap {
			m = m.DeepCopy()
			m.Data = map[string]string{"v": "doomed"}
			return m
		},
	})
}

func value(t *testing.T, c *cache.Cache[*corev1.ConfigMap], name string) string {
	t.Helper()
	m, ok := c.Get(key(name))
	if !ok {
		return ""
	}
	return m.Data["v"]
}

func TestCacheFollowsWhatWasThereAndWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		a.Create(t.Context(), configMap("old", "1"))
		c := newCache(a)
		var mu sync.Mutex
		changes := map[string]int{}
		c.OnChange(func(ch cache.Change[*corev1.ConfigMap]) {
			mu.Lock()
			defer mu.Unlock()
			changes[fmt.Sprintf("%s old=%v new=%v", ch.Key.Name, ch.HadOld, ch.HasNew)]++
		})
		byValue := cache.NewIndex(c, func(m *corev1.ConfigMap) []string { return []string{m.Data["v"]} })
		looptest.Start(t, c.Run)
		<-c.Synced()
		a.Create(t.Context(), configMap("new", "1"))
		synctest.Wait()
		if c.Len() != 2 || byValue.Len("1") != 2 {
			t.Errorf("got %d objects, %d of value 1, want 2 and 2", c.Len(), byValue.Len("1"))
		}
		a.Modify(t.Context(), api.ConfigMaps, "default", "new", "", func(o api.Object) error {
			o.(*corev1.ConfigMap).Data["v"] = "2"
			return nil
		})
		a.Delete(t.Context(), api.ConfigMaps, "default", "old", metav1.DeleteOptions{})
		synctest.Wait()
		if value(t, c, "new") != "2" || byValue.Len("1") != 0 || byValue.Keys("2")[0] != key("new") {
			t.Errorf("got new=%q and %d of value 1, want 2 and none", value(t, c, "new"), byValue.Len("1"))
		}
		want := map[string]int{"old old=false new=true": 1, "new old=false new=true": 1, "new old=true new=true": 1, "old old=true new=false": 1}
		if fmt.Sprint(changes) != fmt.Sprint(want) {
			t.Errorf("got changes %v, want %v", changes, want)
		}
	})
}

// script is a source whose watch the test feeds by hand.
type script struct {
	objects []api.Object
	rev     uint64
	events  chan []api.Event
}

func (s *script) View() api.View { return s }
func (s *script) Watch(context.Context, schema.GroupResource, uint64) (<-chan []api.Event, error) {
	return s.events, nil
}
func (s *script) Revision() uint64 { return s.rev }
func (s *script) Get(schema.GroupResource, string, string) (api.Object, bool) {
	return nil, false
}
func (s *script) List(schema.GroupResource, string) iter.Seq[api.Object] {
	return func(yield func(api.Object) bool) {
		for _, o := range s.objects {
			if !yield(o) {
				return
			}
		}
	}
}

func at(rev int, m *corev1.ConfigMap) *corev1.ConfigMap {
	m.ResourceVersion, m.UID = fmt.Sprint(rev), types.UID(m.Name)
	return m
}

func run(t *testing.T, s *script) *cache.Cache[*corev1.ConfigMap] {
	s.events = make(chan []api.Event)
	c := newCache(s)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { stop(); close(s.events); <-done })
	<-c.Synced()
	return c
}

func TestOwnWriteIsSeenBeforeTheWatchTellsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{rev: 10, objects: []api.Object{at(5, configMap("a", "5"))}}
		c := run(t, s)
		c.Put(at(12, configMap("a", "12")))
		if got := value(t, c, "a"); got != "12" {
			t.Errorf("got %q, want our own write", got)
		}
		s.events <- []api.Event{{Type: watch.Modified, Object: at(11, configMap("a", "11")), Rev: 11}}
		synctest.Wait()
		if got := value(t, c, "a"); got != "12" {
			t.Errorf("got %q after an older event, want our own write kept", got)
		}
		s.events <- []api.Event{{Type: watch.Modified, Object: at(13, configMap("a", "13")), Rev: 13}}
		synctest.Wait()
		c.Put(at(12, configMap("a", "12")))
		if got := value(t, c, "a"); got != "13" {
			t.Errorf("got %q after an answer that came late, want the newer state kept", got)
		}
	})
}

func TestLateAnswerDoesNotBringADeletedObjectBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{rev: 10}
		c := run(t, s)
		s.events <- []api.Event{
			{Type: watch.Added, Object: at(11, configMap("a", "11")), Rev: 11},
			{Type: watch.Deleted, Object: at(12, configMap("a", "11")), Rev: 12},
		}
		synctest.Wait()
		c.Put(at(11, configMap("a", "11")))
		if _, ok := c.Get(key("a")); ok {
			t.Error("got the object back")
		}
	})
}

func TestDoomedObjectStaysDoomedUntilItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{rev: 10, objects: []api.Object{at(5, configMap("a", "5"))}}
		c := run(t, s)
		c.Doom(key("a"), "another")
		if got := value(t, c, "a"); got != "5" {
			t.Errorf("got %q after another object of the name was deleted, want it untouched", got)
		}
		c.Doom(key("a"), "a")
		s.events <- []api.Event{{Type: watch.Modified, Object: at(11, configMap("a", "11")), Rev: 11}}
		synctest.Wait()
		if got := value(t, c, "a"); got != "doomed" {
			t.Errorf("got %q, want doomed", got)
		}
		s.events <- []api.Event{{Type: watch.Deleted, Object: at(12, configMap("a", "11")), Rev: 12}}
		s.events <- []api.Event{{Type: watch.Added, Object: at(13, configMap("a", "13")), Rev: 13}}
		synctest.Wait()
		if got := value(t, c, "a"); got != "13" {
			t.Errorf("got %q of the next object of the name, want 13", got)
		}
	})
}

func TestCacheThatFellBehindStartsFromANewSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{rev: 10, objects: []api.Object{at(5, configMap("gone", "5")), at(6, configMap("stays", "6"))}}
		first := make(chan []api.Event)
		s.events = first
		c := newCache(s)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		<-c.Synced()
		synctest.Wait()
		s.rev, s.objects, s.events = 20, []api.Object{at(15, configMap("stays", "15"))}, make(chan []api.Event)
		close(first)
		synctest.Wait()
		if _, ok := c.Get(key("gone")); ok || value(t, c, "stays") != "15" {
			t.Errorf("got gone=%v stays=%q, want it gone and 15", ok, value(t, c, "stays"))
		}
		stop()
		close(s.events)
		<-done
	})
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	cluster := looptest.New()
	cluster.Create(ctx, configMap("greeting", "hello"))
	c := cache.New(cache.Config[*corev1.ConfigMap]{Source: cluster, Resource: api.ConfigMaps, Project: cache.As[*corev1.ConfigMap]})
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-c.Synced()
	m, _ := c.Get(types.NamespacedName{Namespace: "default", Name: "greeting"})
	fmt.Println(m.Data["v"])
	stop()
	<-done
	// Output: hello
}
