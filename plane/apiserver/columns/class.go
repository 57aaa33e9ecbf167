package columns

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var runtimeClassColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Handler", "string", nodev1.RuntimeClass{}.SwaggerDoc()["handler"]),
	ageColumn,
}

func runtimeClassRow(r *nodev1.RuntimeClass, now time.Time) []any {
	return []any{r.Name, r.Handler, age(r.CreationTimestamp, now)}
}

var priorityClassColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Value", "integer", schedulingv1.PriorityClass{}.SwaggerDoc()["value"]),
	column("Global-Default", "boolean", schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]),
	ageColumn,
	column("PreemptionPolicy", "string", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"]),
}

func priorityClassRow(p *schedulingv1.PriorityClass, now time.Time) []any {
	preemption := ""
	if p.PreemptionPolicy != nil {
		preemption = string(*p.PreemptionPolicy)
	}
	return []any{p.Name, int64(p.Value), p.GlobalDefault, age(p.CreationTimestamp, now), preemption}
}

var leaseColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Holder", "string", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
	ageColumn,
}

func leaseRow(l *coordinationv1.Lease, now time.Time) []any {
	holder := ""
	if l.Spec.HolderIdentity != nil {
		holder = *l.Spec.HolderIdentity
	}
	return []any{l.Name, holder, age(l.CreationTimestamp, now)}
}
