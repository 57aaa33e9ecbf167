package token

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
)

const (
	// maxToken bounds what is parsed: ours are about a kilobyte.
	maxToken = 16 << 10
	// leeway is how far apart clocks may be, and how long the token of an object
	// under deletion works on, as in Kubernetes.
	leeway = jwt.DefaultLeeway
)

// Why a token was refused. The API server answers 401 to all of them; the reason
// goes to its log.
var (
	ErrMalformed   = errors.New("not a service account token")
	ErrSignature   = errors.New("token is signed by no key of this cluster")
	ErrExpired     = errors.New("service account token has expired")
	ErrNotYetValid = errors.New("service account token is not valid yet: clocks may differ")
	ErrClaims      = errors.New("token's claims are incomplete")
	ErrInvalidated = errors.New("service account token has been invalidated")
)

// An AudienceError says that a good token was meant for somebody else.
type AudienceError struct{ Token, Expected []string }

func (e *AudienceError) Error() string {
	return fmt.Sprintf("token audiences %q is invalid for the target audiences %q", e.Token, e.Expected)
}

// An Authenticator checks tokens of an Issuer against the objects that they are
// bound to.
type Authenticator struct {
	issuer  *Issuer
	objects Objects
}

var _ authenticator.Token = (*Authenticator)(nil)

// NewAuthenticator returns an Authenticator for the tokens of one issuer.
func NewAuthenticator(issuer *Issuer, objects Objects) *Authenticator {
	return &Authenticator{issuer: issuer, objects: objects}
}

// AuthenticateToken implements authenticator.Token. Tokens of other issuers give
// no opinion (nil, false, nil). The audiences expected come with the context
// (authenticator.WithAudiences), else they are the issuer's own.
func (a *Authenticator) AuthenticateToken(ctx context.Context, raw string) (*authenticator.Response, bool, error) {
	if !a.issuer.Issued(raw) {
		return nil, false, nil
	}
	claims, err := a.issuer.Verify(raw, time.Now())
	if err != nil {
		return nil, false, err
	}
	expected, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		expected = a.issuer.cfg.Audiences
	}
	shared := authenticator.Audiences(claims.Audience).Intersect(expected)
	if len(shared) == 0 {
		return nil, false, &AudienceError{Token: claims.Audience, Expected: expected}
	}
	if err := a.checkBound(ctx, claims.Kubernetes, time.Now()); err != nil {
		return nil, false, err
	}
	return &authenticator.Response{Audiences: shared, User: claims.user().UserInfo()}, true, nil
}

// Issued tells, without any trust in the answer, whether a token claims to come
// from this issuer.
func (i *Issuer) Issued(raw string) bool {
	if len(raw) > maxToken {
		return false
	}
	_, rest, _ := strings.Cut(raw, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return false
	}
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return false
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(data, &claims) == nil && i.accepts(claims.Issuer)
}

func (i *Issuer) accepts(iss string) bool {
	return iss == i.cfg.URL || slices.Contains(i.cfg.Accept, iss)
}

// Verify checks a token's form, signature, issuer, times and the completeness of
// its claims; audiences and bound objects are the Authenticator's to check.
func (i *Issuer) Verify(raw string, now time.Time) (*Claims, error) {
	if len(raw) > maxToken {
		return nil, fmt.Errorf("token: %w: %d bytes", ErrMalformed, len(raw))
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{algorithm})
	if err != nil {
		return nil, fmt.Errorf("token: %w: %w", ErrMalformed, err)
	}
	if len(parsed.Headers) != 1 {
		return nil, fmt.Errorf("token: %w: %d signatures", ErrMalformed, len(parsed.Headers))
	}
	key, ok := i.cfg.Keys.public(parsed.Headers[0].KeyID)
	if !ok {
		return nil, fmt.Errorf("token: %w", ErrSignature)
	}
	var claims Claims
	if err := parsed.Claims(key, &claims); err != nil {
		if errors.Is(err, jose.ErrCryptoFailure) {
			return nil, fmt.Errorf("token: %w", ErrSignature)
		}
		return nil, fmt.Errorf("token: %w: %w", ErrMalformed, err)
	}
	if !i.accepts(claims.Issuer) {
		return nil, fmt.Errorf("token: %w: issuer %q", ErrClaims, claims.Issuer)
	}
	if err := claims.check(now); err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return &claims, nil
}

// check is pure: the claims against the clock and themselves.
func (c *Claims) check(now time.Time) error {
	if c.Expiry == nil || c.NotBefore == nil || c.IssuedAt == nil || c.ID == "" {
		return fmt.Errorf("%w: exp, nbf, iat or jti is missing", ErrClaims)
	}
	k := c.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || k.ServiceAccount.UID == "" {
		return fmt.Errorf("%w: kubernetes.io names no service account", ErrClaims)
	}
	if c.Subject != serviceaccount.MakeUsername(k.Namespace, k.ServiceAccount.Name) {
		return fmt.Errorf("%w: sub %q is not the service account", ErrClaims, c.Subject)
	}
	switch err := c.ValidateWithLeeway(jwt.Expected{Time: now}, leeway); {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return ErrNotYetValid
	default:
		return fmt.Errorf("%w: %w", ErrClaims, err)
	}
}

func (c *Claims) user() *serviceaccount.ServiceAccountInfo {
	k := c.Kubernetes
	info := &serviceaccount.ServiceAccountInfo{
		Namespace:    k.Namespace,
		Name:         k.ServiceAccount.Name,
		UID:          string(k.ServiceAccount.UID),
		CredentialID: "JTI=" + c.ID,
	}
	if k.Pod != nil {
		info.PodName, info.PodUID = k.Pod.Name, string(k.Pod.UID)
	}
	if k.Node != nil {
		info.NodeName, info.NodeUID = k.Node.Name, string(k.Node.UID)
	}
	return info
}

// checkBound finds each object that the token depends on, alive and the same one.
func (a *Authenticator) checkBound(ctx context.Context, b Binding, now time.Time) error {
	if err := a.checkObject(ctx, "serviceaccounts", b.Namespace, b.ServiceAccount, now); err != nil {
		return err
	}
	switch {
	case b.Secret != nil:
		return a.checkObject(ctx, "secrets", b.Namespace, *b.Secret, now)
	case b.Pod != nil:
		return a.checkObject(ctx, "pods", b.Namespace, *b.Pod, now)
	case b.Node != nil:
		return a.checkObject(ctx, "nodes", "", *b.Node, now)
	}
	return nil
}

func (a *Authenticator) checkObject(ctx context.Context, resource, namespace string, ref Ref, now time.Time) error {
	obj, err := a.objects.Object(ctx, schema.GroupResource{Resource: resource}, namespace, ref.Name)
	if err != nil {
		return fmt.Errorf("token: %w: %s %q: %w", ErrInvalidated, resource, ref.Name, err)
	}
	if err := sameAndAlive(obj, ref.UID, now); err != nil {
		return fmt.Errorf("token: %w: %s %q %w", ErrInvalidated, resource, ref.Name, err)
	}
	return nil
}

func sameAndAlive(obj metav1.Object, uid types.UID, now time.Time) error {
	if obj.GetUID() != uid {
		return fmt.Errorf("has uid %s, the token was issued for %s", obj.GetUID(), uid)
	}
	if gone := obj.GetDeletionTimestamp(); gone != nil && gone.Time.Before(now.Add(-leeway)) {
		return errors.New("has been deleted")
	}
	return nil
}
