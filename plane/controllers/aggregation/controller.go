// Package aggregation fills ClusterRoles that have an aggregation rule with the
// rules of the ClusterRoles that it selects. It knows roles and labels, not what
// a rule permits.
//
//	c := aggregation.New(aggregation.Config{Client: client, Roles: roles})
//	err := c.Run(ctx)
package aggregation

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
)

// Client is what the controller asks of the cluster.
type Client interface {
	Update(ctx context.Context, o api.Object) (api.Object, error)
}

// Config is what a controller works with; every field but Loop is needed.
type Config struct {
	Client Client
	Roles  *cache.Cache[*rbacv1.ClusterRole]
	Loop   loop.Config
}

// Controller reconciles aggregated ClusterRoles, keyed by name.
type Controller struct {
	Config
	*loop.Loop[string]
	aggregated *cache.Index[bool, *rbacv1.ClusterRole]
}

// New subscribes to the cache, which must not run yet.
func New(cfg Config) *Controller {
	c := &Controller{Config: cfg}
	c.Loop = loop.New(cfg.Loop, c.reconcile)
	c.aggregated = cache.NewIndex(cfg.Roles, func(r *rbacv1.ClusterRole) []bool { return []bool{r.AggregationRule != nil} })
	cfg.Roles.OnChange(func(cache.Change[*rbacv1.ClusterRole]) {
		for _, key := range c.aggregated.Keys(true) {
			c.Add(key.Name)
		}
	})
	return c
}

func (c *Controller) reconcile(ctx context.Context, name string) (loop.Result, error) {
	role, ok := c.Roles.Get(types.NamespacedName{Name: name})
	if !ok || role.AggregationRule == nil {
		return loop.Result{}, nil
	}
	var others []*rbacv1.ClusterRole
	for _, r := range c.Roles.All() {
		others = append(others, r)
	}
	rules, err := union(role, others)
	if err != nil {
		return loop.Result{}, err
	}
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return loop.Result{}, nil
	}
	next := role.DeepCopy()
	next.Rules = rules
	o, err := c.Client.Update(ctx, next)
	if apierrors.IsNotFound(err) {
		return loop.Result{}, nil
	}
	if err != nil {
		return loop.Result{}, fmt.Errorf("clusterrole %s: %w", name, err)
	}
	c.Roles.Put(o)
	return loop.Result{}, nil
}

// union is the rules of all roles that role selects, by their names, each once.
func union(role *rbacv1.ClusterRole, others []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	slices.SortFunc(others, func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	rules := []rbacv1.PolicyRule{}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		sel, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("clusterrole %s: aggregationRule.clusterRoleSelectors[%d]: %w", role.Name, i, err)
		}
		for _, r := range others {
			if r.Name == role.Name || !sel.Matches(labels.Set(r.Labels)) {
				continue
			}
			for _, rule := range r.Rules {
				if !slices.ContainsFunc(rules, func(known rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(known, rule) }) {
					rules = append(rules, *rule.DeepCopy())
				}
			}
		}
	}
	return rules, nil
}
