package reviews

import (
	"context"
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
)

func (cfg Config) selfAccess(ctx context.Context, u user.Info, r *authorizationv1.SelfSubjectAccessReview) error {
	r.Status = cfg.decide(ctx, u, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

func (cfg Config) subjectAccess(ctx context.Context, _ user.Info, r *authorizationv1.SubjectAccessReview) error {
	r.Status = cfg.decide(ctx, subject(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

func (cfg Config) localAccess(ctx context.Context, _ user.Info, r *authorizationv1.LocalSubjectAccessReview) error {
	if ns, ok := genericapirequest.NamespaceFrom(ctx); !ok || ns != r.Namespace {
		return apierrors.NewBadRequest("namespace must match spec.resourceAttributes.namespace and the namespace in the URL")
	}
	r.Status = cfg.decide(ctx, subject(r.Spec), r.Spec.ResourceAttributes, nil)
	return nil
}

// decide asks the authorizer. What goes wrong there is part of the answer.
func (cfg Config) decide(ctx context.Context, u user.Info, res *authorizationv1.ResourceAttributes,
	path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	attrs := authorizer.AttributesRecord{User: u}
	switch {
	case res != nil:
		attrs.ResourceRequest = true
		attrs.Verb, attrs.Namespace, attrs.Name = res.Verb, res.Namespace, res.Name
		attrs.APIGroup, attrs.APIVersion = res.Group, anyVersion(res.Version)
		attrs.Resource, attrs.Subresource = res.Resource, res.Subresource
		if s := res.FieldSelector; s != nil {
			attrs.FieldSelectorRequirements, attrs.FieldSelectorParsingErr = fieldRequirements(s.Requirements)
		}
		if s := res.LabelSelector; s != nil {
			attrs.LabelSelectorRequirements, attrs.LabelSelectorParsingErr = labelRequirements(s.Requirements)
		}
	case path != nil:
		attrs.Verb, attrs.Path = path.Verb, path.Path
	}
	decision, reason, err := cfg.Authorizer.Authorize(ctx, attrs)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow,
		Denied:  decision == authorizer.DecisionDeny,
		Reason:  reason,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

// anyVersion asks for all versions when none is named: rules have none either.
func anyVersion(version string) string {
	if version == "" {
		return "*"
	}
	return version
}

func fieldRequirements(list []metav1.FieldSelectorRequirement) (fields.Requirements, error) {
	var out fields.Requirements
	for _, r := range list {
		var op selection.Operator
		switch {
		case r.Operator == metav1.FieldSelectorOpIn && len(r.Values) == 1:
			op = selection.Equals
		case r.Operator == metav1.FieldSelectorOpNotIn && len(r.Values) == 1:
			op = selection.NotEquals
		default:
			return nil, fmt.Errorf("fieldSelector: operator %q with %d values is not supported", r.Operator, len(r.Values))
		}
		out = append(out, fields.Requirement{Field: r.Key, Operator: op, Value: r.Values[0]})
	}
	return out, nil
}

func labelRequirements(list []metav1.LabelSelectorRequirement) (labels.Requirements, error) {
	selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: list})
	if err != nil {
		return nil, err
	}
	requirements, _ := selector.Requirements()
	return requirements, nil
}

func subject(spec authorizationv1.SubjectAccessReviewSpec) user.Info {
	extra := make(map[string][]string, len(spec.Extra))
	for k, v := range spec.Extra {
		extra[k] = v
	}
	return &user.DefaultInfo{Name: spec.User, UID: spec.UID, Groups: slices.Clone(spec.Groups), Extra: extra}
}

func (cfg Config) selfRules(ctx context.Context, u user.Info, r *authorizationv1.SelfSubjectRulesReview) error {
	if r.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	resources, paths, incomplete, err := cfg.Rules.RulesFor(ctx, u, r.Spec.Namespace)
	r.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
		Incomplete:       incomplete,
	}
	for _, rule := range resources {
		r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rule.GetVerbs(), APIGroups: rule.GetAPIGroups(),
			Resources: rule.GetResources(), ResourceNames: rule.GetResourceNames(),
		})
	}
	for _, rule := range paths {
		r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{
			Verbs: rule.GetVerbs(), NonResourceURLs: rule.GetNonResourceURLs(),
		})
	}
	if err != nil {
		r.Status.Incomplete, r.Status.EvaluationError = true, err.Error()
	}
	return nil
}
