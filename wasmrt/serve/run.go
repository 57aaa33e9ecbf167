package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// Run serves requests that come on the listeners, which it closes. When ctx ends
// it takes no more, and returns once those under way are answered. Close ends them
// at once.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	web := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.cfg.Limits.HeaderTime,
		IdleTimeout:       s.cfg.Limits.KeepAlive,
		MaxHeaderBytes:    s.cfg.Limits.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-s.life.Done():
		}
		return s.drain(web)
	})
	err := g.Wait()
	s.active.Lock() // those that Close ended have returned
	defer s.active.Unlock()
	return err
}

// drain lets the requests under way end, unless Close does not wait.
func (s *Server) drain(web *http.Server) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	idle := make(chan error, 1)
	go func() { idle <- web.Shutdown(ctx) }()
	select {
	case err := <-idle:
		return err
	case <-s.life.Done():
	}
	cancel()
	<-idle
	return web.Close()
}
