// Package reviews answers who somebody is and what they may do: the kinds of
// authentication.k8s.io and authorization.k8s.io that are asked and never
// stored. It knows the authorizer and the authenticator that requests go
// through; it never learns how these decide.
//
//	storage := reviews.Storage(reviews.Config{Authorizer: a, Rules: r, Tokens: t})
package reviews

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"copepod/plane/apiserver/validation"
)

// Config is what answers stand on.
type Config struct {
	Authorizer authorizer.UnconditionalAuthorizer
	Rules      authorizer.RuleResolver
	Tokens     authenticator.Token
	Audiences  authenticator.Audiences // of the API server itself
}

// Storage gives the storages of both groups by group version and path.
func Storage(cfg Config) map[schema.GroupVersion]map[string]rest.Storage {
	authz, authn := authorizationv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion
	return map[schema.GroupVersion]map[string]rest.Storage{
		authz: {
			"selfsubjectaccessreviews":  newReview("SelfSubjectAccessReview", authz, false, cfg.selfAccess),
			"subjectaccessreviews":      newReview("SubjectAccessReview", authz, false, cfg.subjectAccess),
			"localsubjectaccessreviews": newReview("LocalSubjectAccessReview", authz, true, cfg.localAccess),
			"selfsubjectrulesreviews":   newReview("SelfSubjectRulesReview", authz, false, cfg.selfRules),
		},
		authn: {
			"selfsubjectreviews": newReview("SelfSubjectReview", authn, false, cfg.selfSubject),
			"tokenreviews":       newReview("TokenReview", authn, false, cfg.token),
		},
	}
}

// review is a storage that answers and forgets. T is the kind.
type review[T any, P interface {
	*T
	runtime.Object
}] struct {
	kind       schema.GroupKind
	rules      validation.Rules
	namespaced bool
	answer     func(ctx context.Context, u user.Info, r P) error
}

func newReview[T any, P interface {
	*T
	runtime.Object
}](kind string, gv schema.GroupVersion, namespaced bool, answer func(context.Context, user.Info, P) error) rest.Storage {
	gk := gv.WithKind(kind).GroupKind()
	rules, ok := validation.For(gk)
	if !ok {
		panic(fmt.Sprintf("reviews: %s has no validation", gk))
	}
	return &review[T, P]{gk, rules, namespaced, answer}
}

func (r *review[T, P]) New() runtime.Object     { return P(new(T)) }
func (r *review[T, P]) Destroy()                {}
func (r *review[T, P]) NamespaceScoped() bool   { return r.namespaced }
func (r *review[T, P]) GetSingularName() string { return strings.ToLower(r.kind.Kind) }

func (r *review[T, P]) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc,
	_ *metav1.CreateOptions) (runtime.Object, error) {
	question, ok := obj.(P)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a %s: %T", r.kind.Kind, obj))
	}
	u, ok := genericapirequest.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	if errs := r.rules.Create(question); len(errs) > 0 {
		return nil, apierrors.NewInvalid(r.kind, "", errs)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.answer(ctx, u, question); err != nil {
		return nil, err
	}
	return question, nil
}
