package node

import (
	"context"
	"errors"
	"net/netip"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"copepod/node/mesh/link"
	"copepod/node/mesh/peers"
)

// errNoRange is why a node without a range of pod addresses is not ready, in the
// kubelet's words.
var errNoRange = errors.New("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: the node has no podCIDR yet")

// useRange takes the range of pod addresses that the plane gave this node, if it
// did.
func (n *Node) useRange(cidr string) error {
	if cidr == "" || cidr == n.cidr {
		return nil
	}
	if n.cidr != "" {
		n.log.Warn("the node has another range of pod addresses; pods that run keep theirs until they end", "had", n.cidr, "range", cidr)
	}
	err := n.podRange(cidr)
	if err == nil {
		n.cidr = cidr
		n.desired.SetRange(cidr)
	}
	return err
}

func (n *Node) podRange(cidr string) error {
	prefix, err := netip.ParsePrefix(cidr)
	if err == nil {
		err = n.pods.Range(prefix)
	}
	if err == nil {
		n.setRanged()
	}
	return err
}

// awaitRange waits until pods can have addresses; false if ctx ended first.
func (n *Node) awaitRange(ctx context.Context) bool {
	select {
	case <-n.ranged:
		return true
	case <-ctx.Done():
		return false
	}
}

// hasRange says whether pods can have addresses.
func (n *Node) hasRange() bool {
	select {
	case <-n.ranged:
		return true
	default:
		return false
	}
}

// offer takes that the plane has written the node's object: a range that comes
// later than the node is used at once.
func (n *Node) offer(node *v1.Node) {
	if node.Spec.PodCIDR != "" && !n.hasRange() {
		n.offered.Store(true)
		n.poke()
	}
}

// annotate says where the node's link listens, if that is not where others would
// look; false if the object says so already.
func (n *Node) annotate(node *v1.Node) bool {
	want := ""
	if port := n.cfg.MeshPort; port != 0 && port != link.DefaultPort {
		want = strconv.Itoa(int(port))
	}
	if node.Annotations[peers.PortAnnotation] == want {
		return false
	}
	if want == "" {
		delete(node.Annotations, peers.PortAnnotation)
		return true
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Annotations[peers.PortAnnotation] = want
	return true
}
