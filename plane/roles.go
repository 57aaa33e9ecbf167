package plane

import (
	"context"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/controllers/api"
	"copepod/plane/store"
)

// rolesEvery is how late Nodes show who holds the plane.
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
	holds := map[string]bool{}
	for _, m := range members {
		holds[m.ID] = true
	}
	for obj := range c.View().List(api.Nodes, "") {
		_, labelled := obj.GetLabels()[labelRole]
		if labelled == holds[obj.GetName()] {
			continue
		}
		_, err := c.Modify(ctx, api.Nodes, "", obj.GetName(), "", func(o api.Object) error {
			labels := maps.Clone(o.GetLabels())
			if delete(labels, labelRole); holds[o.GetName()] {
				if labels == nil {
					labels = map[string]string{}
				}
				labels[labelRole] = ""
			}
			o.SetLabels(labels)
			return nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
