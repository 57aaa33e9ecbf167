package plane

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/controllers/api"
	"copepod/plane/enroll"
	"copepod/plane/store"
)

// rolesEvery is how late Nodes show who holds the plane and who votes.
const rolesEvery = 2 * time.Second

// labelRole is what kubectl shows under ROLES. A node may not give it to itself.
const labelRole = "node-role.kubernetes.io/control-plane"

// showRoles writes into the Nodes what Raft has, while this member leads.
func (p *Plane) showRoles(ctx context.Context) error {
	c := client{p.api.Local()}
	for ctx.Err() == nil {
		members, err := p.store.Members()
		if err == nil {
			err = writeRoles(ctx, c, members)
		}
		if err != nil && ctx.Err() == nil {
			p.log.Warn("roles are not shown", "err", err)
		}
		select {
		case <-time.After(rolesEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

func writeRoles(ctx context.Context, c client, members []store.Member) error {
	want := map[string]string{}
	for _, m := range members {
		want[m.ID] = "nonvoter"
		if m.Voter {
			want[m.ID] = "voter"
		}
	}
	for obj := range c.View().List(api.Nodes, "") {
		node, ok := obj.(*corev1.Node)
		if !ok || !setRole(node.DeepCopy(), want[node.Name]) {
			continue
		}
		_, err := c.Modify(ctx, api.Nodes, "", node.Name, "", func(o api.Object) error {
			setRole(o.(*corev1.Node), want[node.Name])
			return nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// setRole says whether it changed anything. An empty role takes both away.
func setRole(node *corev1.Node, role string) bool {
	_, labelled := node.Labels[labelRole]
	if node.Annotations[enroll.AnnotationRaft] == role && labelled == (role != "") {
		return false
	}
	if role == "" {
		delete(node.Labels, labelRole)
		delete(node.Annotations, enroll.AnnotationRaft)
		return true
	}
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Labels[labelRole], node.Annotations[enroll.AnnotationRaft] = "", role
	return true
}
