package controllers

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/controllers/aggregation"
	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/deployment"
	"copepod/plane/controllers/endpointslice"
	"copepod/plane/controllers/garbage"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/namespace"
	"copepod/plane/controllers/nodeipam"
	"copepod/plane/controllers/nodelifecycle"
	"copepod/plane/controllers/podgc"
	"copepod/plane/controllers/pods"
	"copepod/plane/controllers/replicaset"
	"copepod/plane/controllers/rootca"
	"copepod/plane/controllers/serviceaccount"
	"copepod/plane/controllers/tainteviction"
)

// Constructor builds one controller over the shared caches and returns what has
// to run for it. The service account whose rights it has stands inside.
type Constructor func(s *shared, name string) []func(context.Context) error

// Table is every controller there is. It is read only; to add a controller, add
// a row.
var Table = map[string]Constructor{
	"deployment": func(s *shared, name string) []func(context.Context) error {
		client := s.as("deployment-controller")
		events := s.recorder(client, "deployment-controller")
		c := deployment.New(deployment.Config{
			Client: client, Deployments: s.deployments, ReplicaSets: s.replicaSets, Pods: s.pods, Events: events, Loop: s.loop(name),
		})
		return runs(c.Run, events.Run)
	},
	"replicaset": func(s *shared, name string) []func(context.Context) error {
		client := s.as("replicaset-controller")
		events := s.recorder(client, "replicaset-controller")
		c := replicaset.New(replicaset.Config{
			Client: client, ReplicaSets: s.replicaSets, Pods: s.pods, Events: events, Loop: s.loop(name),
		})
		return runs(c.Run, events.Run)
	},
	"endpointslice": func(s *shared, name string) []func(context.Context) error {
		c := endpointslice.New(endpointslice.Config{
			Client: s.as("endpointslice-controller"), Services: follow(s, api.Services, cache.As[*corev1.Service]),
			Slices: follow(s, api.EndpointSlices, endpointslice.Project), Nodes: s.nodes, Pods: s.pods, Loop: s.loop(name),
		})
		return runs(c.Run)
	},
	"namespace": func(s *shared, name string) []func(context.Context) error {
		c := namespace.New(namespace.Config{
			Client: s.as("namespace-controller"), Namespaces: s.namespaces, Pods: s.pods, Resources: s.cfg.Resources, Loop: s.loop(name),
		})
		return runs(c.Run)
	},
	"garbage": func(s *shared, name string) []func(context.Context) error {
		c := garbage.New(garbage.Config{
			Client: s.as("generic-garbage-collector"), Resources: s.cfg.Resources, Log: s.cfg.Log, Loop: s.loop(name),
		})
		return runs(c.Run)
	},
	"serviceaccount": func(s *shared, name string) []func(context.Context) error {
		c := serviceaccount.New(serviceaccount.Config{
			Client: s.as("service-account-controller"), Namespaces: s.namespaces,
			Accounts: follow(s, api.ServiceAccounts, serviceaccount.Project), Loop: s.loop(name),
		})
		return runs(c.Run)
	},
	"rootca": func(s *shared, name string) []func(context.Context) error {
		if len(s.cfg.RootCA) == 0 {
			return nil
		}
		c := rootca.New(rootca.Config{
			Client: s.as("root-ca-cert-publisher"), Namespaces: s.namespaces, PEM: s.cfg.RootCA,
			ConfigMaps: follow(s, api.ConfigMaps, rootca.Project), Loop: s.loop(name),
		})
		return runs(c.Run)
	},
	"nodelifecycle": func(s *shared, name string) []func(context.Context) error {
		client := s.as("node-controller")
		events := s.recorder(client, "node-controller")
		c := nodelifecycle.New(nodelifecycle.Config{
			Client: client, Nodes: s.nodes, Leases: follow[*coordinationv1.Lease](s, api.Leases, nodelifecycle.Project),
			Pods: s.pods, Events: events, Deaths: s.cfg.Deaths, Grace: s.cfg.NodeGrace, Loop: s.loop(name),
		})
		return runs(c.Run, events.Run)
	},
	"nodeipam": func(s *shared, name string) []func(context.Context) error {
		if !s.cfg.PodCIDR.IsValid() {
			return nil
		}
		client := s.as("node-controller")
		events := s.recorder(client, "cidrAllocator")
		c, err := nodeipam.New(nodeipam.Config{
			Client: client, Nodes: s.nodes, Events: events, Cluster: s.cfg.PodCIDR, MaskSize: s.cfg.NodeMaskSize, Loop: s.loop(name), Log: s.cfg.Log,
		})
		if err != nil {
			panic(err) // New has checked it
		}
		return runs(c.Run, events.Run)
	},
	"tainteviction": func(s *shared, name string) []func(context.Context) error {
		client := s.as("node-controller")
		events := s.recorder(client, "taint-eviction-controller")
		c := tainteviction.New(tainteviction.Config{Client: client, Nodes: s.nodes, Pods: s.pods, Events: events, Loop: s.loop(name)})
		return runs(c.Run, events.Run)
	},
	"podgc": func(s *shared, name string) []func(context.Context) error {
		c := podgc.New(podgc.Config{Client: s.as("pod-garbage-collector"), Nodes: s.nodes, Pods: s.pods, Loop: s.loop(name)})
		return runs(c.Run)
	},
	"clusterroleaggregation": func(s *shared, name string) []func(context.Context) error {
		c := aggregation.New(aggregation.Config{
			Client: s.as("clusterrole-aggregation-controller"), Roles: follow(s, api.ClusterRoles, cache.As[*rbacv1.ClusterRole]), Loop: s.loop(name),
		})
		return runs(c.Run)
	},
}

func runs(list ...func(context.Context) error) []func(context.Context) error { return list }

// shared is the caches that several controllers read, of one term of leadership.
type shared struct {
	cfg     Config
	metrics *loop.Metrics
	dropped func()
	caches  []func(context.Context) error
	synced  []<-chan struct{}

	pods        *pods.Book
	nodes       *cache.Cache[*corev1.Node]
	namespaces  *cache.Cache[*corev1.Namespace]
	deployments *cache.Cache[*appsv1.Deployment]
	replicaSets *cache.Cache[*appsv1.ReplicaSet]
}

func newShared(c *Controllers) *shared {
	s := &shared{cfg: c.cfg, metrics: c.metrics, dropped: c.dropped.Inc}
	s.pods = pods.New(c.cfg.Client, c.cfg.Log)
	s.caches, s.synced = append(s.caches, s.pods.Run), append(s.synced, s.pods.Synced())
	s.nodes = follow(s, api.Nodes, cache.As[*corev1.Node])
	s.namespaces = follow(s, api.Namespaces, cache.As[*corev1.Namespace])
	s.deployments = follow(s, api.Deployments, cache.As[*appsv1.Deployment])
	s.replicaSets = follow(s, api.ReplicaSets, cache.As[*appsv1.ReplicaSet])
	return s
}

// follow adds a cache to those that run.
func follow[T any](s *shared, gr schema.GroupResource, project func(api.Object) (T, bool)) *cache.Cache[T] {
	c := cache.New(cache.Config[T]{Source: s.cfg.Client, Resource: gr, Project: project, Log: s.cfg.Log})
	s.caches, s.synced = append(s.caches, c.Run), append(s.synced, c.Synced())
	return c
}
