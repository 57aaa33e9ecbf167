package local

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
)

// request gives a context as the filters before a handler leave it.
func (c *Client) request(ctx context.Context, namespace string) context.Context {
	return genericapirequest.WithNamespace(genericapirequest.WithUser(ctx, c.user), namespace)
}

// attributes describes a write to admission. The namespace of a Namespace is
// itself, as over HTTP.
func (c *Client) attributes(r *resource, subresource string, op admission.Operation, obj, old Object, options runtime.Object) admission.Attributes {
	some := obj
	if some == nil {
		some = old
	}
	namespace := some.GetNamespace()
	if r.Plural == "namespaces" {
		namespace = some.GetName()
	}
	var object, oldObject runtime.Object // a nil Object would be no nil there
	if obj != nil {
		object = obj
	}
	if old != nil {
		oldObject = old
	}
	return admission.NewAttributesRecord(object, oldObject, r.gvk, namespace, some.GetName(), r.gvr, subresource, op, options, false, c.user)
}

// permits remembers within one call what the authorizer said.
type permits struct {
	client *Client
	known  map[question]error
}

type question struct {
	resource                           *resource
	verb, subresource, namespace, name string
}

func (c *Client) newPermits() *permits { return &permits{client: c, known: map[question]error{}} }

// check asks the authorizer, as the filter of HTTP does. Who may do it to any
// name is asked once and not for each name.
func (p *permits) check(ctx context.Context, r *resource, verb, subresource, namespace, name string) error {
	err := p.ask(ctx, question{r, verb, subresource, namespace, ""})
	if err == nil || name == "" {
		return err
	}
	return p.ask(ctx, question{r, verb, subresource, namespace, name})
}

func (p *permits) ask(ctx context.Context, q question) error {
	err, ok := p.known[q]
	if !ok {
		err = p.client.authorize(ctx, q)
		p.known[q] = err
	}
	return err
}

func (c *Client) authorize(ctx context.Context, q question) error {
	attrs := authorizer.AttributesRecord{
		User: c.user, Verb: q.verb, Namespace: q.namespace, Name: q.name,
		APIGroup: q.resource.gvr.Group, APIVersion: q.resource.gvr.Version,
		Resource: q.resource.gvr.Resource, Subresource: q.subresource, ResourceRequest: true,
	}
	decision, reason, err := c.authorizer.Authorize(ctx, attrs)
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		reason = err.Error()
	}
	return responsewriters.ForbiddenStatusError(attrs, reason)
}
