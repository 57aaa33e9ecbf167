package detector

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/nodedial"
)

// How long a node may take.
const (
	lookTimeout = 700 * time.Millisecond // for one of two attempts
	askTimeout  = 2*lookTimeout + 600*time.Millisecond
	maxOpinion  = 4 << 10 // bytes
)

// ports looks over the network.
type ports struct {
	dial *nodedial.Dialer
	http http.Client
	log  *slog.Logger
}

// NewPorts looks over the network, under the identity of dial. nodes tells where
// the nodes are that are asked to look.
func NewPorts(dial *nodedial.Dialer, nodes Nodes, log *slog.Logger) Ports {
	find := func(_ context.Context, name string) (string, error) {
		o, ok := nodes.View().Get(api.Nodes, "", name)
		if !ok {
			return "", fmt.Errorf("node %s is gone", name)
		}
		return nodedial.Address(o.(*corev1.Node))
	}
	if log == nil {
		log = slog.Default()
	}
	return &ports{dial: dial, http: http.Client{Transport: dial.Transport(find)}, log: log.With("part", "detector")}
}

// Look implements Ports. Silence is asked twice.
func (p *ports) Look(ctx context.Context, node, address string) Answer {
	a := p.once(ctx, node, address)
	if a == Silent && ctx.Err() == nil {
		a = p.once(ctx, node, address)
	}
	return a
}

// once asks the node whether it lives. Any answer will do, be it an error: what
// counts is who gives it.
func (p *ports) once(ctx context.Context, node, address string) Answer {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	conn, err := p.dial.Dial(ctx, node, address)
	if err != nil {
		return p.classify(node, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+node+"/livez", nil)
	if err != nil {
		return Unsure
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return Silent
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return Silent
	}
	_ = resp.Body.Close()
	return Alive
}

func (p *ports) classify(node string, err error) Answer {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return Refused
	}
	if impostor, ok := errors.AsType[*nodedial.ImpostorError](err); ok {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](impostor.Err); ok && invalid.Reason == x509.Expired {
			return Unsure
		}
		p.log.Warn("somebody else answers on a node's port", "node", node, "err", err)
		return Impostor
	}
	return Silent
}

// Ask implements Ports.
func (p *ports) Ask(ctx context.Context, helper, node, address string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	query := url.Values{"node": {node}, "address": {address}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+helper+"/confirm?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask node %s: %w", helper, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask node %s: %s", helper, resp.Status)
	}
	return parseOpinion(io.LimitReader(resp.Body, maxOpinion))
}

// parseOpinion reads what a node says that it saw. It may be compromised: it can
// keep another node alive, as any node that is well, but kill none alone.
func parseOpinion(r io.Reader) (Answer, error) {
	var opinion struct {
		Answer Answer `json:"answer"`
	}
	if err := json.NewDecoder(r).Decode(&opinion); err != nil {
		return "", fmt.Errorf("opinion: %w", err)
	}
	switch opinion.Answer {
	case Alive, Refused, Silent, Impostor, Unsure:
		return opinion.Answer, nil
	}
	return "", fmt.Errorf("opinion %q: unknown", opinion.Answer)
}
