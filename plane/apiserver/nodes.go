package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/apiserver/kinds"
)

// nodeTransport reaches node servers by the addresses of their Node objects,
// with our client certificate, and believes only the cluster's CA.
type nodeTransport struct {
	objects   reader
	transport *http.Transport
}

func newNodeTransport(cfg Config, objects reader) *nodeTransport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    cfg.Clients,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if cfg.Node == nil {
					return nil, errors.New("apiserver: config: Node is nil: there is no certificate for node servers")
				}
				cert, err := cfg.Node().TLS()
				return &cert, err
			},
		},
	}
	return &nodeTransport{objects: objects, transport: t}
}

func (n *nodeTransport) Address(_ context.Context, name string) (string, error) {
	obj, err := n.objects.find(corev1.Resource("nodes"), "", name)
	if err != nil {
		return "", err
	}
	address, err := kinds.NodeAddress(obj.(*corev1.Node))
	if err != nil {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("log of a pod on %v", err))
	}
	return address, nil
}

func (n *nodeTransport) Transport() http.RoundTripper { return n.transport }
