package token

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Review answers a TokenReview: who the token is, by the API server's whole token
// authenticator. implicit are the API server's audiences, used where the review
// names none. A refusal is an answer, with the reason in status.error, not an
// error.
func Review(ctx context.Context, authn authenticator.Token, spec authenticationv1.TokenReviewSpec, implicit authenticator.Audiences) authenticationv1.TokenReviewStatus {
	wanted := authenticator.Audiences(spec.Audiences)
	if len(wanted) == 0 {
		wanted = implicit
	}
	if len(wanted) > 0 {
		ctx = authenticator.WithAudiences(ctx, wanted)
	}
	resp, ok, err := authn.AuthenticateToken(ctx, spec.Token)
	switch {
	case err != nil:
		return authenticationv1.TokenReviewStatus{Error: err.Error()}
	case !ok || resp == nil:
		return authenticationv1.TokenReviewStatus{}
	case len(wanted) > 0 && len(wanted.Intersect(resp.Audiences)) == 0:
		return authenticationv1.TokenReviewStatus{Error: (&AudienceError{Token: resp.Audiences, Expected: wanted}).Error()}
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		User:          UserInfo(resp.User),
		Audiences:     wanted.Intersect(resp.Audiences),
	}
}

// UserInfo turns a user into its API form, as TokenReview and SelfSubjectReview
// carry it.
func UserInfo(u user.Info) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = make(map[string]authenticationv1.ExtraValue)
		}
		out.Extra[k] = v
	}
	return out
}
