package reviews

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"copepod/plane/auth/token"
)

func (cfg Config) selfSubject(_ context.Context, u user.Info, r *authenticationv1.SelfSubjectReview) error {
	r.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: token.UserInfo(u)}
	return nil
}

func (cfg Config) token(ctx context.Context, _ user.Info, r *authenticationv1.TokenReview) error {
	if r.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	r.Status = token.Review(ctx, cfg.Tokens, r.Spec, cfg.Audiences)
	return nil
}
