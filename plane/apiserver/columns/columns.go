// Package columns turns objects into the rows that `kubectl get` prints, as
// Kubernetes prints them. It knows the v1 types of k8s.io/api; it never learns
// how a table is negotiated or sent, and time comes in as an argument.
//
//	c, ok := columns.For(schema.GroupKind{Kind: "Pod"})
//	cells := c.Row(pod, time.Now()) // one cell for each of c.Definitions
//
// A row always has the cells of -o wide; a client hides those of priority 1.
package columns

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Columns are the table of one kind.
type Columns struct {
	// Definitions name the columns; those of priority 1 show with -o wide.
	Definitions []metav1.TableColumnDefinition
	// Row gives one cell for each definition, in order. It is nil for an object
	// of another kind. A cell is a string, an int64 or a bool.
	Row func(obj runtime.Object, now time.Time) []any
}

// For gives the table of a kind, and false for a kind that has none of its own
// (a Role shows its name and when it was made, for example).
func For(gk schema.GroupKind) (Columns, bool) {
	c, ok := kinds[gk]
	return c, ok
}

var kinds = map[schema.GroupKind]Columns{
	{Kind: "ConfigMap"}:      table(configMapColumns, configMapRow),
	{Kind: "Endpoints"}:      table(endpointsColumns, endpointsRow),
	{Kind: "Event"}:          table(eventColumns, eventRow),
	{Kind: "Namespace"}:      table(namespaceColumns, namespaceRow),
	{Kind: "Node"}:           table(nodeColumns, nodeRow),
	{Kind: "Pod"}:            table(podColumns, podRow),
	{Kind: "Secret"}:         table(secretColumns, secretRow),
	{Kind: "Service"}:        table(serviceColumns, serviceRow),
	{Kind: "ServiceAccount"}: table(serviceAccountColumns, serviceAccountRow),

	{Group: "apps", Kind: "Deployment"}:                              table(deploymentColumns, deploymentRow),
	{Group: "apps", Kind: "ReplicaSet"}:                              table(replicaSetColumns, replicaSetRow),
	{Group: "autoscaling", Kind: "Scale"}:                            table(scaleColumns, scaleRow),
	{Group: "coordination.k8s.io", Kind: "Lease"}:                    table(leaseColumns, leaseRow),
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:               table(endpointSliceColumns, endpointSliceRow),
	{Group: "events.k8s.io", Kind: "Event"}:                          table(eventColumns, newEventRow),
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                     table(runtimeClassColumns, runtimeClassRow),
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: table(clusterRoleBindingColumns, clusterRoleBindingRow),
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:        table(roleBindingColumns, roleBindingRow),
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:              table(priorityClassColumns, priorityClassRow),
}

// table binds columns to a row function of one Go type.
func table[T runtime.Object](definitions []metav1.TableColumnDefinition, row func(T, time.Time) []any) Columns {
	return Columns{
		Definitions: definitions,
		Row: func(obj runtime.Object, now time.Time) []any {
			typed, ok := obj.(T)
			if !ok {
				return nil
			}
			return row(typed, now)
		},
	}
}

// The two columns that nearly every kind has.
var (
	nameColumn = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
	ageColumn  = column("Age", "string", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])
)

func column(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Description: description}
}

// wide is a column that shows only with -o wide.
func wide(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Description: description, Priority: 1}
}

// age is how long ago t was, as people say it: 5m, 3d2h.
func age(t metav1.Time, now time.Time) string { return since(t.Time, now) }

func since(t, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t))
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
