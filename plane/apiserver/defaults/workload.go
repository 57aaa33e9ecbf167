package defaults

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func deployment(d *appsv1.Deployment) {
	point(&d.Spec.Replicas, 1)
	strategy := &d.Spec.Strategy
	set(&strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		point(&strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		point(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		point(&strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	point(&d.Spec.RevisionHistoryLimit, 10)
	point(&d.Spec.ProgressDeadlineSeconds, 600)
	podSpec(&d.Spec.Template.Spec)
}

func replicaSet(r *appsv1.ReplicaSet) {
	point(&r.Spec.Replicas, 1)
	podSpec(&r.Spec.Template.Spec)
}
