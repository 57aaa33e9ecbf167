package objects_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node/objects"
)

func configMap(name, value string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: value}, Data: map[string]string{"key": value}}
}

var app = objects.Ref{Kind: objects.ConfigMap, Namespace: "default", Name: "app"}

type changes struct {
	mu   sync.Mutex
	seen []types.UID
}

func (c *changes) add(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, uid)
}

func (c *changes) take() []types.UID {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

// run starts a store in a bubble.
func run(t *testing.T, client *fake.Clientset) (*objects.Store, *changes) {
	t.Helper()
	var c changes
	s, err := objects.New(objects.Config{Client: client.CoreV1(), Changed: c.add})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return s, &c
}

func value(t *testing.T, s *objects.Store) string {
	t.Helper()
	cm, err := s.ConfigMap(t.Context(), "default", "app")
	if apierrors.IsNotFound(err) {
		return err.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cm.Data["key"]
}

func TestHoldersHearOfChangesAndOthersDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configMap("app", "1"), configMap("other", "1"))
		s, heard := run(t, client)
		s.Hold("p1", []objects.Ref{app})
		s.Hold("p2", []objects.Ref{{Kind: objects.ConfigMap, Namespace: "default", Name: "other"}})
		if got := value(t, s); got != "1" {
			t.Errorf("got %q, want %q", got, "1")
		}
		synctest.Wait()
		if _, err := client.CoreV1().ConfigMaps("default").Update(t.Context(), configMap("app", "2"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := heard.take(); len(got) != 1 || got[0] != "p1" {
			t.Errorf("got change heard by %v, want p1 once", got)
		}
		if got := value(t, s); got != "2" {
			t.Errorf("got %q after the change, want %q", got, "2")
		}
	})
}

func TestAnObjectThatIsMissingIsHeardOfWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		s, heard := run(t, client)
		s.Hold("p1", []objects.Ref{app})
		if got, want := value(t, s), `configmap "app" not found`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		synctest.Wait()
		if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("app", "1"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := heard.take(); len(got) != 1 {
			t.Errorf("got %d changes, want 1", len(got))
		}
		if got := value(t, s); got != "1" {
			t.Errorf("got %q, want %q", got, "1")
		}
		if err := client.CoreV1().ConfigMaps("default").Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := value(t, s), `configmap "app" not found`; got != want {
			t.Errorf("got %q after deletion, want %q", got, want)
		}
	})
}

func TestOneWatchServesAllHoldersAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configMap("app", "1"))
		s, _ := run(t, client)
		for i := range 10 {
			s.Hold(types.UID(fmt.Sprint(i)), []objects.Ref{app})
		}
		synctest.Wait()
		watches := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "watch" {
				watches++
			}
		}
		if watches != 1 {
			t.Errorf("got %d watches for ten holders, want 1", watches)
		}
		for i := range 10 {
			s.Hold(types.UID(fmt.Sprint(i)), nil)
		}
		synctest.Wait()
		client.ClearActions()
		if got := value(t, s); got != "1" {
			t.Errorf("got %q without holders, want %q, asked from the API", got, "1")
		}
		if n := len(client.Actions()); n != 1 {
			t.Errorf("got %d requests, want 1", n)
		}
	})
}

func ExampleStore_ConfigMap() {
	client := fake.NewClientset(configMap("app", "hello"))
	s, _ := objects.New(objects.Config{Client: client.CoreV1()})
	cm, _ := s.ConfigMap(context.Background(), "default", "app")
	fmt.Println(cm.Data["key"])
	// Output: hello
}
