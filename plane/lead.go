package plane

import (
	"context"
	"sync"

	"copepod/plane/apiserver/local"
	"copepod/plane/controllers/api"
)

// client is the in-process API in the terms of the controllers.
type client struct{ *local.Client }

// As implements api.Client.
func (c client) As(user string, groups ...string) api.Client {
	return client{c.Client.As(user, groups...)}
}

// lead runs the parts that exist once in a cluster while this member leads it:
// started when it begins to, stopped when it no longer does.
func (p *Plane) lead(ctx context.Context, parts ...func(context.Context) error) error {
	failed := make(chan error, len(parts))
	for ctx.Err() == nil {
		changed := p.store.LeaderChanged()
		var wg sync.WaitGroup
		term, stop := context.WithCancel(ctx)
		if p.store.Leading() {
			for _, run := range parts {
				wg.Go(func() {
					if err := run(term); err != nil && term.Err() == nil {
						failed <- err
					}
				})
			}
		}
		var err error
		select {
		case <-ctx.Done():
		case <-changed:
		case err = <-failed:
		}
		stop()
		wg.Wait()
		if err != nil {
			return err
		}
	}
	return nil
}
