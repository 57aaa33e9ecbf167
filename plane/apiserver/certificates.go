package apiserver

import (
	"crypto/sha256"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// certificateCacheTTL is how long a verified certificate is taken as it was.
const certificateCacheTTL = 10 * time.Second

// certificateCache remembers which client certificates were found good. To
// verify a chain costs more than most requests, and a connection shows the same
// one each time; that the client holds its key, TLS checks for each connection.
type certificateCache struct {
	authenticator.Request
	known *cache.LRUExpireCache
}

func newCertificateCache(verify authenticator.Request) *certificateCache {
	return &certificateCache{verify, cache.NewLRUExpireCache(4096)}
}

func (c *certificateCache) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	key := sha256.Sum256(leaf.Raw)
	if response, ok := c.known.Get(key); ok {
		return response.(*authenticator.Response), true, nil
	}
	response, ok, err := c.Request.AuthenticateRequest(r)
	if ok && err == nil {
		c.known.Add(key, response, min(certificateCacheTTL, time.Until(leaf.NotAfter)))
	}
	return response, ok, err
}
