package validation_test

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"copepod/plane/apiserver/validation"
)

var deploymentKind = gk("apps", "Deployment")

func TestDeploymentsAreJudged(t *testing.T) {
	rolling := func(unavailable, surge intstr.IntOrString) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}
		}
	}
	creates[*appsv1.Deployment]{
		{"as it is", func(*appsv1.Deployment) {}, ""},
		{"selects other pods", func(d *appsv1.Deployment) { d.Spec.Template.Labels = map[string]string{"app": "b"} }, "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"},
		{"selects nothing", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, "spec.selector: Required value\nspec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"},
		{"selects everything", func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} }, "spec.selector: Invalid value: {}: empty selector is invalid for deployment"},
		{"selector that cannot be read", func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "x"}}
		}, "spec.selector.matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator\nspec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\"},\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"x\"}]}: invalid label selector"},
		{"fewer than none", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](-1) }, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"},
		{"cannot move", rolling(intstr.FromInt32(0), intstr.FromString("0%")), "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"},
		{"more than all", rolling(intstr.FromString("101%"), intstr.FromString("150%")), "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"},
		{"not a percentage", rolling(intstr.FromString("a"), intstr.FromInt32(1)), "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"a\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"},
		{"recreate does not roll", func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "Recreate" }, "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"},
		{"another strategy", func(d *appsv1.Deployment) { d.Spec.Strategy = appsv1.DeploymentStrategy{Type: "x"} }, `spec.strategy: Unsupported value: {"type":"x"}: supported values: "Recreate", "RollingUpdate"`},
		{"ready too late", func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }, "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"},
		{"pods that end", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.RestartPolicy, d.Spec.Template.Spec.ActiveDeadlineSeconds = "Never", ptr.To[int64](1)
		}, "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"\nspec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"},
		{"a broken template", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Name = "" }, "spec.template.spec.containers[0].name: Required value"},
		{"no namespace", func(d *appsv1.Deployment) { d.Namespace = "" }, "metadata.namespace: Required value"},
	}.run(t, deploymentKind)
}

func TestASelectorNeverChanges(t *testing.T) {
	other := func(s *metav1.LabelSelector, p *corev1.PodTemplateSpec) {
		s.MatchLabels, p.Labels = map[string]string{"b": "c"}, map[string]string{"b": "c"}
	}
	const want = `spec.selector: Invalid value: {"matchLabels":{"b":"c"}}: field is immutable`
	runUpdates(t, deploymentKind, update, updates[*appsv1.Deployment]{
		{"deployment", nil, func(d *appsv1.Deployment) { other(d.Spec.Selector, &d.Spec.Template) }, want},
		{"replicas may", nil, func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](9) }, ""},
	})
	runUpdates(t, gk("apps", "ReplicaSet"), update, updates[*appsv1.ReplicaSet]{
		{"replica set", nil, func(r *appsv1.ReplicaSet) { other(r.Spec.Selector, &r.Spec.Template) }, want},
	})
}

func TestCountsOfAStatusFitTogether(t *testing.T) {
	runUpdates(t, deploymentKind, updateStatus, updates[*appsv1.Deployment]{
		{"as it should be", nil, func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 1}
		}, ""},
		{"more than there are", nil, func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{Replicas: -1, ReadyReplicas: 2, AvailableReplicas: 3}
		}, "status.replicas: Invalid value: -1: must be greater than or equal to 0\n" +
			"status.updatedReplicas: Invalid value: 0: cannot be greater than status.replicas\n" +
			"status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas\n" +
			"status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas\n" +
			"status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas"},
		{"collisions forgotten", func(d *appsv1.Deployment) { d.Status.CollisionCount = ptr.To[int32](2) }, func(d *appsv1.Deployment) { d.Status.CollisionCount = nil }, "status.collisionCount: Invalid value: 0: cannot be decremented"},
	})
	runUpdates(t, gk("apps", "ReplicaSet"), updateStatus, updates[*appsv1.ReplicaSet]{
		{"more than there are", nil, func(r *appsv1.ReplicaSet) { r.Status.FullyLabeledReplicas = 1 }, "status.fullyLabeledReplicas: Invalid value: 1: cannot be greater than status.replicas"},
	})
}

func TestAScaleIsNotNegative(t *testing.T) {
	creates[*autoscalingv1.Scale]{
		{"below zero", func(s *autoscalingv1.Scale) { s.Spec.Replicas = -3 }, "spec.replicas: Invalid value: -3: must be greater than or equal to 0"},
	}.run(t, gk("autoscaling", "Scale"))
}

func ExampleFor() {
	rules, _ := validation.For(schema.GroupKind{Group: "autoscaling", Kind: "Scale"})
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       autoscalingv1.ScaleSpec{Replicas: -1},
	}
	if errs := rules.Create(scale); len(errs) > 0 {
		fmt.Println(apierrors.NewInvalid(schema.GroupKind{Group: "autoscaling", Kind: "Scale"}, scale.Name, errs))
	}
	// Output: Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
}
