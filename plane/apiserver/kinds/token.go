package kinds

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// TokenIssuer grants what a TokenRequest asks for a service account, or words
// why not.
type TokenIssuer func(ctx context.Context, sa *corev1.ServiceAccount, tr *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

// tokenStorage serves serviceaccounts/token.
type tokenStorage struct {
	store *registry.Store
	issue TokenIssuer
}

func (t *tokenStorage) New() runtime.Object { return &authenticationv1.TokenRequest{} }
func (t *tokenStorage) Destroy()            {}

func (t *tokenStorage) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

func (t *tokenStorage) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc,
	opts *metav1.CreateOptions) (runtime.Object, error) {
	request, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest object: %T", obj))
	}
	if request.Name != "" && request.Name != name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("metadata.name is %q but the service account in the URL is %q", request.Name, name))
	}
	found, err := t.store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	sa := found.(*corev1.ServiceAccount)
	if validate != nil {
		if err := validate(ctx, request.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	granted, err := t.issue(ctx, sa, request)
	if err != nil {
		return nil, err
	}
	granted.Name, granted.Namespace = sa.Name, sa.Namespace
	granted.CreationTimestamp = metav1.Now()
	if dryrun.IsDryRun(opts.DryRun) {
		granted.Status.Token = "" // a dry run gives nothing away
	}
	return granted, nil
}
