package cmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"copepod/cmd/config"
	"copepod/plane"
	"copepod/plane/auth/certs"
)

// identity is what this machine's node shows: to the API as a client, and on its
// own server. Both are renewed long before they end.
type identity struct {
	client, serving *certs.Rotator
	api             *rest.Config
}

// newIdentity has the plane of this machine issue the node's certificates. The
// client's is kept in files, because that is where client-go looks for a renewed
// one.
func newIdentity(p *plane.Plane, dataDir, name, addr string) (*identity, error) {
	dir := filepath.Join(dataDir, "node")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	cert, key := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	id := &identity{api: &rest.Config{
		Host:            p.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: p.CA().PEM(), CertFile: cert, KeyFile: key},
		ContentConfig:   rest.ContentConfig{AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json", ContentType: "application/vnd.kubernetes.protobuf"},
		UserAgent:       "copepod-node/" + release,
		QPS:             -1, // its own flow is bounded by what pods do
	}}
	var err error
	id.client, err = certs.NewRotator(certs.RotatorConfig{Source: func(context.Context) (certs.Pair, error) {
		pair, err := p.NodeClient(name)
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
	id.serving, err = certs.NewRotator(certs.RotatorConfig{Source: func(context.Context) (certs.Pair, error) {
		return p.NodeServing(name, []string{name, addr, "localhost", "127.0.0.1"})
	}})
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	return id, nil
}

// nodeName is the configured name, or the machine's, as the name of a Node.
func nodeName(cfg config.Config) (string, error) {
	name := cfg.Node.Name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("host name: %w; give one with --node-name", err)
		}
		name = strings.ToLower(host)
	}
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return "", fmt.Errorf("node name %q: %s; give another with --node-name", name, errs[0])
	}
	return name, nil
}
