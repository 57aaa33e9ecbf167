package validation_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// BenchmarkPod is what a pod of a deployment costs on its way in, and again
// whenever its node reports.
func BenchmarkPod(b *testing.B) {
	rules := rulesOf(b, podKind)
	p := valid[*corev1.Pod](b, podKind)
	p.Labels = map[string]string{"app": "web", "pod-template-hash": "7d9f8"}
	p.Spec.ServiceAccountName = "default"
	p.Spec.Volumes = []corev1.Volume{configVolume("config", "web")}
	c := first(p)
	c.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}}
	c.Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/config"}}
	c.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("10Mi")}
	scheme.Default(p)
	if errs := rules.Create(p); len(errs) > 0 {
		b.Fatal(errs)
	}
	b.Run("default", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			scheme.Default(p)
		}
	})
	b.Run("create", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rules.Create(p)
		}
	})
	b.Run("status", func(b *testing.B) {
		old := p.DeepCopy()
		b.ReportAllocs()
		for b.Loop() {
			rules.UpdateStatus(p, old)
		}
	})
}
