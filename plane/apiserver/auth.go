package apiserver

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	authnunion "k8s.io/apiserver/pkg/authentication/request/union"
	authnx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/union"
	genericapiserver "k8s.io/apiserver/pkg/server"

	rules "copepod/plane/apiserver/admission"
	"copepod/plane/apiserver/kinds"
	"copepod/plane/auth/nodes"
	"copepod/plane/auth/rbac"
	"copepod/plane/auth/token"
)

// tokenCacheTTL is how long the outcome of a token is remembered. A deleted
// account's token works that much longer, as in Kubernetes.
const tokenCacheTTL = 10 * time.Second

// auth is who may come in and what they may do.
type auth struct {
	requests   authenticator.Request
	tokens     authenticator.Token
	audiences  authenticator.Audiences
	authorizer authorizer.Authorizer
	rules      authorizer.RuleResolver
	guard      rbac.Guard
}

func newAuth(cfg Config, objects reader) (*auth, error) {
	a := &auth{tokens: noTokens{}}
	if cfg.Issuer != nil {
		a.audiences = cfg.Issuer.Audiences()
		a.tokens = token.NewAuthenticator(cfg.Issuer, objects)
	}
	a.tokens = tokencache.New(a.tokens, false, tokenCacheTTL, tokenCacheTTL)
	know := func(string) {}
	if l, ok := cfg.Listener.(interface{ Know(remote string) }); ok {
		know = l.Know
	}
	a.requests = requests(cfg.Clients, a.tokens, know)

	roles := rbac.New(objects)
	a.rules = roles
	chain := []union.NamedAuthorizer{{AuthorizerName: "masters", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)}}
	chain = append(chain, cfg.Authorizers...)
	chain = append(chain, union.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: roles})
	var err error
	if a.authorizer, err = union.New(chain...); err != nil {
		return nil, err
	}
	a.guard = rbac.Guard{Authorizer: a.authorizer, RBAC: roles}
	return a, nil
}

// requests asks for a certificate, then for a token. Who has neither is nobody,
// and nobody may ask for health and version. know hears of the connections of all
// others.
func requests(clients *x509.CertPool, tokens authenticator.Token, know func(remote string)) authenticator.Request {
	options := authnx509.DefaultVerifyOptions()
	options.Roots = clients
	proven := group.NewAuthenticatedGroupAdder(authnunion.New(
		newCertificateCache(authnx509.New(options, authnx509.CommonNameUserConversion)),
		bearertoken.New(tokens),
	))
	known := authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		resp, ok, err := proven.AuthenticateRequest(r)
		if ok && err == nil {
			know(r.RemoteAddr)
		}
		return resp, ok, err
	})
	var open []apiserver.AnonymousAuthCondition
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/version", "/version/"} {
		open = append(open, apiserver.AnonymousAuthCondition{Path: path})
	}
	return authnunion.NewFailOnError(known, anonymous.NewAuthenticator(open))
}

// apply hands the parts to the library.
func (a *auth) apply(c *genericapiserver.Config) {
	c.Authentication.Authenticator = a.requests
	c.Authentication.APIAudiences = a.audiences
	c.Authorization.Authorizer = a.authorizer
	c.RuleResolver = a.rules
}

func (a *auth) admission(objects reader, unreachableSeconds int64) admission.Interface {
	return admission.NewChainHandler(
		rules.New(rules.Config{Objects: stored{objects}, Guard: a.guard, UnreachableSeconds: unreachableSeconds}),
		nodes.NewRestriction(objects),
	)
}

// grant answers TokenRequests, if there is an issuer.
func grant(issuer *token.Issuer, objects reader) kinds.TokenIssuer {
	if issuer == nil {
		return nil
	}
	return func(ctx context.Context, sa *corev1.ServiceAccount, tr *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		return issuer.Grant(ctx, objects, sa, tr)
	}
}

// noTokens knows nobody.
type noTokens struct{}

func (noTokens) AuthenticateToken(context.Context, string) (*authenticator.Response, bool, error) {
	return nil, false, nil
}
