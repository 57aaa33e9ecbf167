// Package nodes keeps each node to its own: the Node authorizer lets it reach its
// Node and Lease, the pods bound to it and what these refer to; Restriction is
// the admission that judges what it writes. It knows pods and node identities; it
// never learns how pods get to nodes, and it grants nothing to anyone who is not
// a node.
//
//	graph := &nodes.Graph{}                       // fed with every pod
//	authz := union.New(nodes.NewAuthorizer(graph), rbac.New(lister))
//	admission := nodes.NewRestriction(objects)    // among the validating ones
//
// Words and rules are those of Kubernetes' Node authorizer and NodeRestriction.
package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"copepod/plane/auth/rbac"
)

const userPrefix = "system:node:"

// Identify tells whether a user is a node, and which: a name of the form
// system:node:NAME and the group system:nodes, both, make a node.
func Identify(u user.Info) (name string, ok bool) {
	if u == nil {
		return "", false
	}
	name, ok = strings.CutPrefix(u.GetName(), userPrefix)
	if !ok || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return "", false
	}
	return name, true
}

// Relations tells which objects belong to a node; *Graph does.
type Relations interface {
	Reaches(node, resource, namespace, name string) bool
}

// An Authorizer allows nodes what rbac.NodeRules list, as far as it is their own.
// It never denies, so that an administrator may bind more to a node.
type Authorizer struct {
	relations Relations
	rules     []rbacv1.PolicyRule
}

var (
	_ authorizer.Authorizer   = (*Authorizer)(nil)
	_ authorizer.RuleResolver = (*Authorizer)(nil)
)

// NewAuthorizer returns an Authorizer over relations.
func NewAuthorizer(relations Relations) *Authorizer {
	return &Authorizer{relations: relations, rules: rbac.NodeRules()}
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (a *Authorizer) Authorize(_ context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	node, ok := Identify(attrs.GetUser())
	if !ok {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if node == "" {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("unknown node for user %q", attrs.GetUser().GetName()), nil
	}
	if ok, reason := a.own(node, attrs); !ok {
		return authorizer.DecisionNoOpinion, reason, nil
	}
	// Whatever is its own it may still only use as the rules say.
	for i := range a.rules {
		if rbac.Allows(attrs, &a.rules[i]) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// ConditionsAwareAuthorize is Authorize: there are no conditions here.
func (a *Authorizer) ConditionsAwareAuthorize(ctx context.Context, attrs authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(a.Authorize(ctx, attrs))
}

// EvaluateConditions fails closed: conditions are never asked for.
func (a *Authorizer) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// RulesFor says that the rules of nodes cannot be listed.
func (a *Authorizer) RulesFor(_ context.Context, u user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if _, ok := Identify(u); ok {
		return nil, nil, true, errors.New("node authorizer does not support user rule resolution")
	}
	return nil, nil, false, nil
}

// own tells whether a request stays within what belongs to the node; kinds that
// belong to no node in particular pass.
func (a *Authorizer) own(node string, attrs authorizer.Attributes) (bool, string) {
	if !attrs.IsResourceRequest() {
		return true, ""
	}
	// Nodes read all nodes: they route to each other's pods, as kube-proxy and the
	// network plugins do elsewhere. What they write is left to Restriction: a
	// create has no name here.
	switch (schema.GroupResource{Group: attrs.GetAPIGroup(), Resource: attrs.GetResource()}) {
	case schema.GroupResource{Resource: secrets}, schema.GroupResource{Resource: configMaps}:
		return a.ownReadable(node, attrs)
	case schema.GroupResource{Resource: claims}:
		if attrs.GetVerb() != "get" {
			return false, "can only get individual resources of this type"
		}
		return a.reaches(node, attrs)
	case schema.GroupResource{Resource: serviceAccounts}:
		return a.ownAccount(node, attrs)
	case schema.GroupResource{Resource: pods}:
		return a.ownPod(node, attrs)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return ownLease(node, attrs)
	}
	return true, ""
}

func (a *Authorizer) reaches(node string, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetName() == "" {
		return false, "No Object name found"
	}
	if !a.relations.Reaches(node, attrs.GetResource(), attrs.GetNamespace(), attrs.GetName()) {
		return false, fmt.Sprintf("no relationship found between node '%s' and this object", node)
	}
	return true, ""
}

func (a *Authorizer) ownReadable(node string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetVerb() {
	case "get", "list", "watch": // list and watch only of one name
	default:
		return false, "can only read resources of this type"
	}
	if attrs.GetSubresource() != "" {
		return false, "cannot read subresource"
	}
	if attrs.GetNamespace() == "" {
		return false, "can only read namespaced object of this type"
	}
	return a.reaches(node, attrs)
}

func (a *Authorizer) ownAccount(node string, attrs authorizer.Attributes) (bool, string) {
	if attrs.GetVerb() != "create" || attrs.GetName() == "" {
		return false, "can only create tokens for individual service accounts"
	}
	if attrs.GetSubresource() != "token" {
		return false, "can only create token subresource of serviceaccount"
	}
	return a.reaches(node, attrs)
}

func (a *Authorizer) ownPod(node string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetVerb() {
	case "get":
		if attrs.GetSubresource() != "" {
			return false, "cannot get subresource"
		}
		return a.reaches(node, attrs)
	case "list", "watch":
		if selectsNode(attrs, node) {
			return true, ""
		}
		if attrs.GetName() != "" {
			return a.reaches(node, attrs)
		}
		return false, "can only list/watch pods with spec.nodeName field selector"
	}
	return true, "" // writes are judged by Restriction, which sees the pod
}

func selectsNode(attrs authorizer.Attributes, node string) bool {
	requirements, err := attrs.GetFieldSelector()
	if err != nil {
		return false
	}
	for _, r := range requirements {
		if r.Field == "spec.nodeName" && r.Operator == selection.Equals && r.Value == node {
			return true
		}
	}
	return false
}

func ownLease(node string, attrs authorizer.Attributes) (bool, string) {
	switch attrs.GetVerb() {
	case "get", "create", "update", "patch", "delete":
	default:
		return false, "can only get, create, update, patch, or delete a node lease"
	}
	if attrs.GetNamespace() != corev1.NamespaceNodeLease {
		return false, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	if attrs.GetVerb() != "create" && attrs.GetName() != node {
		return false, "can only access node lease with the same name as the requesting node"
	}
	return true, ""
}
