package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// idleTimeout ends a connection on which no request comes.
	idleTimeout = 2 * time.Minute
	// bodyTimeout bounds a body on its way, of whatever size it may be.
	bodyTimeout = 20 * time.Second
	// handleTimeout bounds the answer to a request.
	handleTimeout = 30 * time.Second
)

// serve answers the requests of one connection until it ends.
func (p *Peer) serve(ctx context.Context, c *memberConn, handle Handler) {
	for ctx.Err() == nil {
		err := p.answer(ctx, c, handle)
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), ctx.Err() != nil:
		case errors.Is(err, errFrame):
			p.refused(reasonFrame, c.RemoteAddr(), fmt.Errorf("member %s: %w", c.member, err))
		default:
			p.log.Debug("a connection of a member ends", "member", c.member, "reason", err)
		}
		return
	}
}

func (p *Peer) answer(ctx context.Context, c *memberConn, handle Handler) error {
	c.SetDeadline(time.Now().Add(idleTimeout))
	kind, size, err := readHeader(c)
	if err != nil {
		return err
	}
	if kind != kindRequest {
		return fmt.Errorf("%w: kind %d where a request should be", errFrame, kind)
	}
	c.SetDeadline(time.Now().Add(bodyTimeout))
	request, err := readBody(c, size)
	if err != nil {
		return err
	}
	if err := p.stillWelcome(c); err != nil {
		p.refused(reasonUnauthorized, c.RemoteAddr(), err)
		return net.ErrClosed
	}
	hctx, cancel := context.WithTimeout(ctx, handleTimeout)
	response, err := handle(hctx, c.member, request)
	cancel()
	kind = kindAnswer
	if err != nil {
		kind, response = kindFailure, []byte(err.Error())
	}
	c.SetDeadline(time.Now().Add(bodyTimeout))
	return writeFrame(c, kind, response)
}
