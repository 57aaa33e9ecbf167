// Package openapi holds the schemas of the kinds that the API serves, generated
// from the comments of k8s.io/api. It knows their fields and documentation; it
// never learns which of them are served, or where.
//
//	config := server.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
package openapi

//go:generate go tool openapi-gen --output-dir . --output-pkg copepod/plane/apiserver/openapi --output-file zz_generated.openapi.go --go-header-file /dev/null --report-filename /dev/null k8s.io/api/core/v1 k8s.io/api/apps/v1 k8s.io/api/autoscaling/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/coordination/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/node/v1 k8s.io/api/policy/v1 k8s.io/api/rbac/v1 k8s.io/api/scheduling/v1 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/version k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/util/intstr
