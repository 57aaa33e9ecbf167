package token

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Grant answers the token subresource of a service account: it validates the
// TokenRequest, finds the object that the token is to be bound to, issues, and
// fills in defaults and status. Errors are API statuses with Kubernetes' words.
// Whether the caller may ask is decided before; a node may ask only for pods that
// run on it (package nodes).
func (i *Issuer) Grant(ctx context.Context, objects Objects, sa *corev1.ServiceAccount, tr *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out := tr.DeepCopy()
	if out.Spec.ExpirationSeconds == nil {
		seconds := int64(DefaultTTL / time.Second)
		out.Spec.ExpirationSeconds = &seconds
	}
	if errs := ValidateTokenRequest(out); len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = i.Audiences()
	}
	// Seconds beyond a year would overflow nothing yet, but are cut anyway.
	ttl := min(time.Duration(*out.Spec.ExpirationSeconds), time.Duration(i.cfg.MaxTTL/time.Second)) * time.Second
	req := Request{Namespace: sa.Namespace, Name: sa.Name, UID: sa.UID, Audiences: out.Spec.Audiences, TTL: ttl}
	if out.Spec.BoundObjectRef != nil {
		if err := bind(ctx, objects, &req, *out.Spec.BoundObjectRef); err != nil {
			return nil, err
		}
	}
	issued, err := i.Issue(req)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	// What was granted, which may be less than what was asked for.
	*out.Spec.ExpirationSeconds = int64(ttl / time.Second)
	out.Status = authenticationv1.TokenRequestStatus{Token: issued.Token, ExpirationTimestamp: metav1.NewTime(issued.Expires)}
	return out, nil
}

// ValidateTokenRequest checks the bounds of spec.expirationSeconds.
func ValidateTokenRequest(tr *authenticationv1.TokenRequest) field.ErrorList {
	path := field.NewPath("spec", "expirationSeconds")
	if tr.Spec.ExpirationSeconds == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	seconds := *tr.Spec.ExpirationSeconds
	if seconds < int64(MinTTL/time.Second) {
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration less than 10 minutes")}
	}
	if seconds > 1<<32 {
		return field.ErrorList{field.Invalid(path, seconds, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}

func bind(ctx context.Context, objects Objects, req *Request, ref authenticationv1.BoundObjectReference) error {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	switch {
	case gvk.Group == "" && gvk.Kind == "Pod":
		return bindPod(ctx, objects, req, ref)
	case gvk.Group == "" && gvk.Kind == "Secret":
		bound, err := find(ctx, objects, "secrets", req.Namespace, ref)
		req.Secret = bound
		return err
	case gvk.Group == "" && gvk.Kind == "Node":
		bound, err := find(ctx, objects, "nodes", "", ref)
		req.Node = bound
		return err
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to object with gvk %q", req.Name, gvk.String()))
	}
}

// bindPod also notes the node that the pod runs on, which tells the API server
// where a token is used from.
func bindPod(ctx context.Context, objects Objects, req *Request, ref authenticationv1.BoundObjectReference) error {
	resource := schema.GroupResource{Resource: "pods"}
	obj, err := objects.Object(ctx, resource, req.Namespace, ref.Name)
	if err != nil {
		return err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("token: pod %s/%s is a %T", req.Namespace, ref.Name, obj))
	}
	if pod.Spec.ServiceAccountName != req.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", req.Name))
	}
	if err := checkUID(resource, ref, pod.UID); err != nil {
		return err
	}
	req.Pod = &Ref{Name: pod.Name, UID: pod.UID}
	if pod.Spec.NodeName == "" {
		return nil
	}
	req.Node = &Ref{Name: pod.Spec.NodeName}
	node, err := objects.Object(ctx, schema.GroupResource{Resource: "nodes"}, "", pod.Spec.NodeName)
	if err == nil {
		req.Node.UID = node.GetUID()
	} else if !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

func find(ctx context.Context, objects Objects, resource, namespace string, ref authenticationv1.BoundObjectReference) (*Ref, error) {
	gr := schema.GroupResource{Resource: resource}
	obj, err := objects.Object(ctx, gr, namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	if err := checkUID(gr, ref, obj.GetUID()); err != nil {
		return nil, err
	}
	return &Ref{Name: obj.GetName(), UID: obj.GetUID()}, nil
}

func checkUID(resource schema.GroupResource, ref authenticationv1.BoundObjectReference, uid types.UID) error {
	if ref.UID == "" || ref.UID == uid {
		return nil
	}
	return apierrors.NewConflict(resource, ref.Name,
		fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
}
