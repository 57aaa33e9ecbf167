package node_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"copepod/node"
	"copepod/node/mesh/peers"
)

// unranged starts a node that has no range of its own.
func unranged(c *node.Config) {
	c.PodCIDR, c.Offline, c.MeshPort = netip.Prefix{}, time.Hour, 17948
}

func TestANodeRunsNoPodBeforeItHasARangeOfAddresses(t *testing.T) {
	dir, api := t.TempDir(), fake.NewClientset()
	a := startNode(t, dir, api, unranged)
	nodes := api.CoreV1().Nodes()
	get := func() *v1.Node {
		n, err := nodes.Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return n
	}
	until(t, "the node to say that it is not ready, and where its link is", func() bool {
		n := get()
		return n != nil && readiness(n) == "False KubeletNotReady" && n.Annotations[peers.PortAnnotation] == "17948"
	})
	// The fake API keeps no history: what happens before the watch is lost.
	until(t, "the node to watch itself", func() bool {
		return slices.ContainsFunc(api.Actions(), func(a k8stesting.Action) bool { return a.Matches("watch", "nodes") })
	})
	waits := bound("waits", "server:v1")
	if _, err := api.CoreV1().Pods("default").Create(t.Context(), waits, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.node.Ready():
		t.Fatal("the node is ready without a range")
	default:
	}
	n := get().DeepCopy()
	n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.64.64.0/18", []string{"10.64.64.0/18"}
	if _, err := nodes.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the pod to have an address of the range", func() bool {
		p, err := api.CoreV1().Pods("default").Get(t.Context(), "waits", metav1.GetOptions{})
		return err == nil && strings.HasPrefix(p.Status.PodIP, "10.64.64.")
	})
	until(t, "the node to be ready", func() bool { return readiness(get()) == "True KubeletReady" })
}
