// Package token issues and checks service-account tokens: JWTs (RFC 7519) signed
// with ES256, with the claims that Kubernetes puts in them, so that anything that
// understands a Kubernetes token understands ours. It knows keys, claims and the
// uid of the objects that a token is bound to; it never learns what a service
// account may do (package rbac decides that).
//
//	keys, err := token.LoadOrCreateKeys(dir)
//	issuer, err := token.NewIssuer(token.Config{URL: url, Keys: keys})
//	issued, err := issuer.Issue(token.Request{Namespace: "default", Name: "web", UID: uid})
//	authn := token.NewAuthenticator(issuer, objects)
//
// The join tokens of new machines are another thing: see package join beside.
package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// Bounds of a token's life, as the TokenRequest API has them.
const (
	DefaultTTL = time.Hour
	MinTTL     = 10 * time.Minute
	MaxTTL     = 24 * time.Hour
)

// Objects finds the objects that tokens are bound to: serviceaccounts, pods,
// secrets and nodes of the core group. A missing one is an error for which
// apierrors.IsNotFound holds. Because a token may be used a moment after its pod
// was made, an implementation should not answer "not found" from a stale cache.
type Objects interface {
	Object(ctx context.Context, resource schema.GroupResource, namespace, name string) (metav1.Object, error)
}

// Config configures an Issuer; URL and Keys are required.
type Config struct {
	URL       string        // https URL, the "iss" of every token
	Accept    []string      // former URLs whose tokens are still good
	Keys      *Keys         // sign and verify
	Audiences []string      // the API server's own; empty = URL
	MaxTTL    time.Duration // longest life granted; 0 = MaxTTL
}

// An Issuer makes tokens. It keeps no record of them: a token ends with its
// expiry, or with the object that it is bound to.
type Issuer struct {
	cfg    Config
	signer jose.Signer
}

// NewIssuer checks the configuration.
func NewIssuer(cfg Config) (*Issuer, error) {
	if u, err := url.Parse(cfg.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("token: issuer URL %q is not an https URL", cfg.URL)
	}
	if cfg.Keys == nil {
		return nil, errors.New("token: config: Keys is nil")
	}
	if len(cfg.Audiences) == 0 {
		cfg.Audiences = []string{cfg.URL}
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = MaxTTL
	}
	if cfg.MaxTTL < MinTTL {
		return nil, fmt.Errorf("token: config: MaxTTL %s is below %s", cfg.MaxTTL, MinTTL)
	}
	signer, err := cfg.Keys.signer()
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return &Issuer{cfg: cfg, signer: signer}, nil
}

// Audiences are those that a token gets that asks for none, and that the
// authenticator expects where a request names none.
func (i *Issuer) Audiences() []string { return append([]string(nil), i.cfg.Audiences...) }

// A Ref names an object that a token is bound to.
type Ref struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid,omitempty"`
}

// A Request describes a token. Namespace, Name and UID are those of the service
// account; of Pod, Secret and Node the token ends with the first that is set,
// Node beside Pod only informs.
type Request struct {
	Namespace, Name string
	UID             types.UID
	Audiences       []string      // empty = Issuer.Audiences
	TTL             time.Duration // 0 = DefaultTTL; cut to the issuer's MaxTTL
	Pod             *Ref
	Secret          *Ref
	Node            *Ref
}

// An Issued token.
type Issued struct {
	Token   string // secret
	ID      string // "jti", to be found again in the audit log
	Expires time.Time
}

// Issue signs a token.
func (i *Issuer) Issue(r Request) (Issued, error) {
	if r.Namespace == "" || r.Name == "" || r.UID == "" {
		return Issued{}, fmt.Errorf("token: issue for %s/%s: namespace, name or uid is empty", r.Namespace, r.Name)
	}
	if r.TTL == 0 {
		r.TTL = DefaultTTL
	}
	if r.TTL < MinTTL {
		return Issued{}, fmt.Errorf("token: issue for %s/%s: may not specify a duration less than 10 minutes", r.Namespace, r.Name)
	}
	claims := i.claims(r, time.Now())
	raw, err := jwt.Signed(i.signer).Claims(claims).Serialize()
	if err != nil {
		return Issued{}, fmt.Errorf("token: issue for %s/%s: %w", r.Namespace, r.Name, err)
	}
	return Issued{Token: raw, ID: claims.ID, Expires: claims.Expiry.Time()}, nil
}

func (i *Issuer) claims(r Request, now time.Time) Claims {
	if len(r.Audiences) == 0 {
		r.Audiences = i.cfg.Audiences
	}
	return Claims{
		Claims: jwt.Claims{
			Issuer:    i.cfg.URL,
			Subject:   serviceaccount.MakeUsername(r.Namespace, r.Name),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(min(r.TTL, i.cfg.MaxTTL))),
			ID:        rand.Text(),
		},
		Audience: r.Audiences,
		Kubernetes: Binding{
			Namespace:      r.Namespace,
			ServiceAccount: Ref{Name: r.Name, UID: r.UID},
			Pod:            r.Pod,
			Secret:         r.Secret,
			Node:           r.Node,
		},
	}
}

// Claims is the payload of a token.
type Claims struct {
	jwt.Claims
	// Audience stands for the embedded one, which writes a single audience as a
	// string; Kubernetes writes a list.
	Audience   []string `json:"aud"`
	Kubernetes Binding  `json:"kubernetes.io"`
}

// A Binding ties a token to the objects without which it is void.
type Binding struct {
	Namespace      string `json:"namespace"`
	ServiceAccount Ref    `json:"serviceaccount"`
	Pod            *Ref   `json:"pod,omitempty"`
	Secret         *Ref   `json:"secret,omitempty"`
	Node           *Ref   `json:"node,omitempty"`
}
