package plane

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Run serves until ctx ends. The API stops first, then what writes through it,
// the store last.
func (p *Plane) Run(ctx context.Context) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	var base errgroup.Group
	base.Go(func() error { return p.store.Run(below) })
	base.Go(func() error { return p.objects.Run(below) })

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.serving.Run(ctx) })
	g.Go(func() error { return p.kubelet.Run(ctx) })
	g.Go(func() error {
		select {
		case <-p.store.Ready():
		case <-ctx.Done():
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
		return p.lead(ctx, p.control.Run, p.placing.Run)
	})
	for _, follow := range []func(context.Context) error{
		func(ctx context.Context) error { return p.nodes.follow(ctx, p.api.Local()) },
		func(ctx context.Context) error { return p.names.follow(ctx, p.api.Local(), p.serving.Renew) },
	} {
		g.Go(func() error {
			select {
			case <-p.store.Ready():
				return follow(ctx)
			case <-ctx.Done():
				return nil
			}
		})
	}
	err := g.Wait()
	stopBelow()
	if below := base.Wait(); err == nil {
		err = below
	}
	if err != nil {
		return fmt.Errorf("plane: %w", err)
	}
	return nil
}
