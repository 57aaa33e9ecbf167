package cmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"copepod/plane"
	"copepod/plane/auth/certs"
	"copepod/plane/enroll"
)

// identity is what this machine's node shows: to the API and to other nodes as a
// client, and on its own ports. Both are renewed long before they end.
type identity struct {
	client, serving *certs.Rotator
	api             *rest.Config
	roots           *x509.CertPool // whom it believes
}

// ownIdentity has the plane of this machine issue the node's certificates: it
// must not depend on others to come back. The client's is kept in files, because
// that is where client-go looks for a renewed one.
func ownIdentity(m *machine, p *plane.Plane) (*identity, error) {
	dir := filepath.Join(m.cfg.DataDir, "node")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	cert, key := filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key")
	id := &identity{roots: p.CA().Pool(), api: &rest.Config{
		TLSClientConfig: rest.TLSClientConfig{CAData: p.CA().PEM(), CertFile: cert, KeyFile: key, ServerName: certs.APIName},
	}}
	id.complete(m)
	var err error
	id.client, err = certs.NewRotator(certs.RotatorConfig{Log: m.log, Source: func(context.Context) (certs.Pair, error) {
		pair, err := p.NodeClient(m.name)
		if err != nil {
			return pair, err
		}
		if err := os.WriteFile(key, pair.KeyPEM, 0o600); err != nil {
			return pair, err
		}
		return pair, os.WriteFile(cert, pair.CertPEM, 0o600)
	}})
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	id.serving, err = certs.NewRotator(certs.RotatorConfig{Log: m.log, Source: func(context.Context) (certs.Pair, error) {
		return p.NodeServing(m.name, []string{m.name, m.addr.String()})
	}})
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	return id, nil
}

// memberIdentity asks the planes for the node's certificates, with the key that
// it joined with.
func memberIdentity(ctx context.Context, m *machine) (*identity, error) {
	_, roots, err := certs.ReadTrust(m.member.TrustDir())
	if err != nil {
		return nil, err
	}
	id := &identity{roots: roots, api: m.member.API(hostPort(m.addr, m.cfg.API.Port))}
	id.complete(m)
	renewer := m.member.Renewer(enroll.RenewerConfig{Version: release, Log: m.log, Servers: func() []string {
		var all []string
		for _, p := range m.gossip.planes() {
			all = append(all, p.String())
		}
		return all
	}})
	id.client, id.serving, err = renewer.Rotators(ctx)
	return id, err
}

// complete sets what both ways have in common. The node speaks to the API port
// of its own machine, which leads to a plane wherever that is.
func (id *identity) complete(m *machine) {
	id.api.Host = "https://" + hostPort(m.addr, m.cfg.API.Port)
	id.api.ContentConfig = rest.ContentConfig{AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json", ContentType: "application/vnd.kubernetes.protobuf"}
	id.api.UserAgent = "copepod-node/" + release
	id.api.QPS = -1 // its own flow is bounded by what pods do
}

// run renews both until ctx ends.
func (id *identity) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return id.client.Run(ctx) })
	g.Go(func() error { return id.serving.Run(ctx) })
	return g.Wait()
}

// nodeTLS is how this node calls other nodes.
func (id *identity) nodeTLS() *tls.Config { return id.client.ClientTLS(id.roots) }
