package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
)

var (
	namespaces  = corev1.Resource("namespaces")
	localReview = schema.GroupResource{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}
)

// lifecycle keeps objects out of namespaces that are missing or on their way
// out, and the three namespaces that everything stands on from being deleted.
// It is Kubernetes' NamespaceLifecycle without its waits: our reads are not stale.
type lifecycle struct{ objects Objects }

func (l lifecycle) admit(ctx context.Context, a admission.Attributes) error {
	isNamespace := a.GetResource().GroupResource() == namespaces
	if a.GetOperation() == admission.Delete && isNamespace && immortal(a.GetName()) {
		return apierrors.NewForbidden(namespaces, a.GetName(), errors.New("this namespace may not be deleted"))
	}
	if a.GetOperation() != admission.Create || a.GetNamespace() == "" || isNamespace {
		return nil
	}
	if a.GetResource().GroupResource() == localReview { // an answer here would tell what exists
		return nil
	}
	obj, err := l.objects.Object(ctx, namespaces, "", a.GetNamespace())
	if err != nil {
		return err
	}
	if obj.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	refusal := admission.NewForbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	var status *apierrors.StatusError
	if errors.As(refusal, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
			Field:   "metadata.namespace",
		})
	}
	return refusal
}

func (l lifecycle) validate(context.Context, admission.Attributes) error { return nil }

func immortal(name string) bool {
	return name == metav1.NamespaceDefault || name == metav1.NamespaceSystem || name == metav1.NamespacePublic
}
