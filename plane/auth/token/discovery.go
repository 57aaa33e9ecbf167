package token

import (
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Paths of the discovery documents under the issuer's URL, and the content types
// to serve them with.
const (
	DiscoveryPath        = "/.well-known/openid-configuration"
	JWKSPath             = "/openid/v1/jwks"
	DiscoveryContentType = "application/json"
	JWKSContentType      = "application/jwk-set+json"
)

// Discovery returns the OpenID Provider configuration (OpenID Connect Discovery
// 1.0 section 3), cut to what verifying service-account tokens takes. jwksURI is
// where JWKS is served.
func (i *Issuer) Discovery(jwksURI string) ([]byte, error) {
	doc := struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{
		Issuer:        i.cfg.URL,
		JWKSURI:       jwksURI,
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		Algorithms:    []string{string(algorithm)},
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("token: discovery: %w", err)
	}
	return data, nil
}

// JWKS returns the public keys as a JSON Web Key Set (RFC 7517).
func (i *Issuer) JWKS() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, k := range i.cfg.Keys.ring {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: &k.private.PublicKey, KeyID: k.id, Algorithm: string(algorithm), Use: "sig",
		})
	}
	data, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("token: jwks: %w", err)
	}
	return data, nil
}
