package plane

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Run serves until ctx ends. The API stops first, then what writes through it,
// the store last, and after it the connections that it hands over leadership on.
func (p *Plane) Run(ctx context.Context) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	wires, stopWires := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWires()
	var base, links errgroup.Group
	if p.peers != nil {
		links.Go(func() error { return p.member.Run(wires) })
		links.Go(func() error { return p.peers.Run(wires, p.store.Serve) })
	}
	base.Go(func() error { return p.store.Run(below) })
	base.Go(func() error { return p.objects.Run(below) })

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.serving.Run(ctx) })
	g.Go(func() error { return p.kubelet.Run(ctx) })
	g.Go(func() error {
		if !p.usable(ctx) {
			return nil
		}
		return p.api.Run(ctx)
	})
	g.Go(func() error {
		select {
		case <-p.api.Ready():
			close(p.ready)
		case <-ctx.Done():
			return nil
		}
		parts := []func(context.Context) error{p.control.Run, p.placing.Run, p.deaths.Run, p.joining.Keep}
		if p.peers != nil {
			parts = append(parts, p.showRoles)
		}
		return p.lead(ctx, parts...)
	})
	for _, follow := range p.followers() {
		g.Go(func() error {
			if !p.usable(ctx) {
				return nil
			}
			return follow(ctx)
		})
	}
	err := g.Wait()
	stopBelow()
	if below := base.Wait(); err == nil {
		err = below
	}
	stopWires()
	if wires := links.Wait(); err == nil {
		err = wires
	}
	if err != nil {
		return fmt.Errorf("plane: %w", err)
	}
	return nil
}

// followers run on every plane from when the store is usable.
func (p *Plane) followers() []func(context.Context) error {
	all := []func(context.Context) error{
		func(ctx context.Context) error { return p.nodes.follow(ctx, p.api.Local()) },
		func(ctx context.Context) error { return p.names.follow(ctx, p.api.Local(), p.serving.Renew) },
		p.joining.Run,
	}
	if p.peers != nil {
		all = append(all, p.voting.Run, p.announce)
	}
	return all
}

// usable waits for the store; false: ctx ended first.
func (p *Plane) usable(ctx context.Context) bool {
	select {
	case <-p.store.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}
