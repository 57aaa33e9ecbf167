package kubestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/storage"
)

// namesOn lists the pods of a node, in pages if there is a limit.
func namesOn(t testing.TB, s storage.Interface, node, at string, limit int64) []string {
	t.Helper()
	opts := storage.ListOptions{Recursive: true, Predicate: onNode(node)}
	if at != "" {
		opts.ResourceVersion, opts.ResourceVersionMatch = at, metav1.ResourceVersionMatchExact
	}
	opts.Predicate.Limit = limit
	names := []string{}
	for {
		list := &corev1.PodList{}
		if err := s.GetList(context.Background(), "/core/pods", opts, list); err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
		if list.Continue == "" {
			return names
		}
		opts.Predicate.Continue, opts.ResourceVersion, opts.ResourceVersionMatch = list.Continue, "", ""
	}
}

func TestIndexedListsFindWhatAScanFinds(t *testing.T) {
	k, _, s := podStorage(t, Config{})
	fill(t, k, 2*indexFrom, 7)
	r := k.resource(podResource)
	rnd := rand.New(rand.NewPCG(1, 2))
	nodes := func() string { return fmt.Sprintf("node-%d", rnd.IntN(7)) }
	type moment struct {
		version string
		pods    map[string][]string
	}
	var moments []moment
	for round := range 60 {
		var writes []Write
		for obj := range k.View().List(podResource, "") {
			pod := obj.(*corev1.Pod)
			switch rnd.IntN(40) {
			case 0:
				moved := pod.DeepCopy()
				moved.Spec.NodeName = nodes()
				writes = append(writes, Write{Resource: podResource, Object: moved, Old: pod})
			case 1:
				writes = append(writes, Write{Resource: podResource, Old: pod})
			case 2:
				added := newPod(fmt.Sprintf("new-%d-%s", round, pod.Name), nodes())
				writes = append(writes, Write{Resource: podResource, Object: added})
			}
		}
		k.Write(t.Context(), writes)
		view := k.View()
		m := moment{version: fmt.Sprint(view.Revision()), pods: map[string][]string{}}
		for obj := range view.List(podResource, "") {
			pod := obj.(*corev1.Pod)
			m.pods[pod.Spec.NodeName] = append(m.pods[pod.Spec.NodeName], pod.Name)
		}
		moments = append(moments, m)
		if round%20 == 10 { // as when the hub loses its place
			k.hub.skip(k.hub.position())
		}
		for _, m := range []moment{m, moments[rnd.IntN(len(moments))]} {
			node := nodes()
			for _, limit := range []int64{0, 50} {
				if got := namesOn(t, s, node, m.version, limit); !slices.Equal(got, m.pods[node]) {
					t.Fatalf("%s at version %s, pages of %d: got %d pods, want %d", node, m.version, limit, len(got), len(m.pods[node]))
				}
			}
		}
	}
	if _, built := r.candidates(t.Context(), k.backend.Snapshot(), "node-1"); !built {
		t.Error("got no index, want one")
	}
}
