package kinds

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func deployments() *Kind {
	return &Kind{
		Version: appsv1.SchemeGroupVersion, Plural: "deployments", Singular: "deployment", Kind: "Deployment",
		Object: &appsv1.Deployment{}, List: &appsv1.DeploymentList{}, Short: []string{"deploy"}, Categories: []string{"all"},
		Status: true,
		// Annotations count: the controller copies them to its replica sets.
		Generation: changed(func(d, old *appsv1.Deployment) bool {
			return specChanged(d, old) || !equality.Semantic.DeepEqual(d.Annotations, old.Annotations)
		}),
		UpdateStatus: change(func(d, old *appsv1.Deployment) { d.Labels = old.Labels }),
		ResetStatus:  []fieldpath.Path{fieldpath.MakePathOrDie("metadata", "labels")},
		Also: func(r *Resource, _ Config) map[string]Storage {
			return map[string]Storage{"scale": &scaleStorage{r.Store, deploymentScale{}}}
		},
	}
}

func replicaSets() *Kind {
	return &Kind{
		Version: appsv1.SchemeGroupVersion, Plural: "replicasets", Singular: "replicaset", Kind: "ReplicaSet",
		Object: &appsv1.ReplicaSet{}, List: &appsv1.ReplicaSetList{}, Short: []string{"rs"}, Categories: []string{"all"},
		Status:     true,
		Generation: func(obj, old runtime.Object) bool { return specChanged(obj, old) },
		Fields: selectors(func(rs *appsv1.ReplicaSet, set fields.Set) {
			set["status.replicas"] = strconv.Itoa(int(rs.Status.Replicas))
		}),
		Also: func(r *Resource, _ Config) map[string]Storage {
			return map[string]Storage{"scale": &scaleStorage{r.Store, replicaSetScale{}}}
		},
	}
}
