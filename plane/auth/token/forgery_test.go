package token_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"copepod/plane/auth/token"
)

func TestForgeriesAreRefused(t *testing.T) {
	issuer := newIssuer(t)
	authn := token.NewAuthenticator(issuer, world())
	good := issue(t, issuer, web())
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	encode := base64.RawURLEncoding.EncodeToString
	claims, _ := base64.RawURLEncoding.DecodeString(payload)
	admin := encode([]byte(strings.ReplaceAll(string(claims), ":web", ":admin")))
	hmacSigner, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := hmacSigner.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	hmac, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	// The same issuer URL, as an attacker would write it, by a key of their own.
	stranger := issue(t, issuerWith(t, token.Config{URL: issuerURL, Keys: mustKeys(t)}), web())
	for _, tt := range []struct {
		name, raw string
		want      error
	}{
		{"claims changed", header + "." + admin + "." + signature, token.ErrSignature},
		{"signature cut", header + "." + payload + ".", token.ErrSignature},
		{"alg none", encode([]byte(`{"alg":"none"}`)) + "." + payload + ".", token.ErrMalformed},
		{"alg HS256", hmac, token.ErrMalformed},
		{"key of a stranger", stranger, token.ErrSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, ok, err := authn.AuthenticateToken(t.Context(), tt.raw)
			if ok || !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v, want %v", ok, err, tt.want)
			}
		})
	}
}

func TestSignedClaimsMustBeComplete(t *testing.T) {
	keyPath := filepath.Join(t.TempDir(), "keys")
	keys, err := token.LoadOrCreateKeys(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	issuer := issuerWith(t, token.Config{URL: issuerURL, Keys: keys})
	sign := signerOf(t, keyPath, issuer)
	whole := func() token.Claims {
		c, err := issuer.Verify(issue(t, issuer, web()), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return *c
	}
	for _, tt := range []struct {
		name   string
		change func(*token.Claims)
	}{
		{"no expiry", func(c *token.Claims) { c.Expiry = nil }},
		{"no id", func(c *token.Claims) { c.ID = "" }},
		{"no account", func(c *token.Claims) { c.Kubernetes.ServiceAccount = token.Ref{} }},
		{"no uid", func(c *token.Claims) { c.Kubernetes.ServiceAccount.UID = "" }},
		{"subject of another", func(c *token.Claims) { c.Subject = "system:serviceaccount:default:admin" }},
		{"another issuer", func(c *token.Claims) { c.Issuer = "https://other.example" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := whole()
			tt.change(&c)
			if _, err := issuer.Verify(sign(c), time.Now()); !errors.Is(err, token.ErrClaims) {
				t.Errorf("got %v, want ErrClaims", err)
			}
		})
	}
}

// signerOf signs any claims with the key of an issuer, as only a bug of ours
// could.
func signerOf(t *testing.T, dir string, issuer *token.Issuer) func(token.Claims) string {
	data, err := os.ReadFile(filepath.Join(dir, token.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	doc, err := issuer.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc, &set); err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: set.Keys[0].KeyID}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(c token.Claims) string {
		raw, err := jwt.Signed(signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}
