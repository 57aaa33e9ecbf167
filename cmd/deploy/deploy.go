// Package deploy brings an image to a served URL: it applies a Deployment and a
// Service of type NodePort, waits until pods are ready, and says where they
// answer. It knows the Kubernetes API alone, as any client does.
//
//	url, err := deploy.App{Name: "hello", Image: "hello:latest", Port: 8080}.Apply(ctx, client, host)
package deploy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// App is what is to be served.
type App struct {
	Namespace string // "default" if empty
	Name      string // of the Deployment, the Service and the container
	Image     string
	Port      int32             // that the container listens on
	Replicas  *int32            // nil: as they are, one if new
	Args      []string          // of the program
	Env       map[string]string // of the program
}

// manager owns the fields that Apply sets (server-side apply).
const manager = "copepod"

// Apply makes or updates the App's objects, waits until its pods are ready or
// ctx ends, and returns the URL under host that leads to them.
func (a App) Apply(ctx context.Context, api kubernetes.Interface, host string) (string, error) {
	if a.Namespace == "" {
		a.Namespace = metav1.NamespaceDefault
	}
	opts := metav1.ApplyOptions{FieldManager: manager, Force: true}
	svc, err := api.CoreV1().Services(a.Namespace).Apply(ctx, a.service(), opts)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", a.Name, err)
	}
	d, err := api.AppsV1().Deployments(a.Namespace).Apply(ctx, a.deployment(), opts)
	if err != nil {
		return "", fmt.Errorf("deployment %s: %w", a.Name, err)
	}
	if err := a.available(ctx, api, d); err != nil {
		return "", err
	}
	addr := net.JoinHostPort(host, strconv.Itoa(int(svc.Spec.Ports[0].NodePort)))
	return "http://" + addr, answers(ctx, addr)
}

func (a App) labels() map[string]string { return map[string]string{"app": a.Name} }

func (a App) service() *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(a.Name, a.Namespace).WithLabels(a.labels()).WithSpec(corev1ac.ServiceSpec().
		WithType(corev1.ServiceTypeNodePort).WithSelector(a.labels()).
		WithPorts(corev1ac.ServicePort().WithName("http").WithProtocol(corev1.ProtocolTCP).WithPort(80).WithTargetPort(intstr.FromString("http"))))
}

func (a App) deployment() *appsac.DeploymentApplyConfiguration {
	container := corev1ac.Container().WithName(a.Name).WithImage(a.Image).WithImagePullPolicy(corev1.PullIfNotPresent).WithArgs(a.Args...).
		WithPorts(corev1ac.ContainerPort().WithName("http").WithProtocol(corev1.ProtocolTCP).WithContainerPort(a.Port))
	for k, v := range a.Env {
		container.WithEnv(corev1ac.EnvVar().WithName(k).WithValue(v))
	}
	spec := appsac.DeploymentSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(a.labels())).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(a.labels()).WithSpec(corev1ac.PodSpec().WithContainers(container)))
	if a.Replicas != nil {
		spec.WithReplicas(*a.Replicas)
	}
	return appsac.Deployment(a.Name, a.Namespace).WithLabels(a.labels()).WithSpec(spec)
}

// available waits until the Deployment's rollout has ended well.
func (a App) available(ctx context.Context, api kubernetes.Interface, d *appsv1.Deployment) error {
	w, err := api.AppsV1().Deployments(a.Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, a.Name).String()})
	if err != nil {
		return fmt.Errorf("deployment %s: watch: %w", a.Name, err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("deployment %s: not ready: %s", a.Name, a.why(api))
		case e, ok := <-w.ResultChan():
			if !ok {
				return fmt.Errorf("deployment %s: the API server ended the watch", a.Name)
			}
			if e.Type == watch.Error {
				return fmt.Errorf("deployment %s: watch: %w", a.Name, apierrors.FromObject(e.Object))
			}
			if now, ok := e.Object.(*appsv1.Deployment); ok && e.Type != watch.Deleted && done(now, d.Generation) {
				return nil
			}
		}
	}
}

// done is what `kubectl rollout status` waits for.
func done(d *appsv1.Deployment, generation int64) bool {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	return s.ObservedGeneration >= generation && s.UpdatedReplicas >= want && s.Replicas == s.UpdatedReplicas && s.AvailableReplicas == s.UpdatedReplicas
}

// why finds what keeps the pods from being ready, in the words of their status.
func (a App) why(api kubernetes.Interface) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	pods, err := api.CoreV1().Pods(a.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + a.Name})
	if err != nil || len(pods.Items) == 0 {
		return "no pod has been made yet"
	}
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil && w.Message != "" {
				return fmt.Sprintf("pod %s: %s: %s", p.Name, w.Reason, w.Message)
			}
			if t := c.LastTerminationState.Terminated; t != nil {
				return fmt.Sprintf("pod %s: its program ended with exit code %d (%s); see: copepod logs -p %s", p.Name, t.ExitCode, t.Reason, p.Name)
			}
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				return fmt.Sprintf("pod %s: %s", p.Name, c.Message)
			}
		}
	}
	return fmt.Sprintf("pod %s is %s", pods.Items[0].Name, pods.Items[0].Status.Phase)
}

// answers waits until the node port is open: it follows the Service by a moment.
func answers(ctx context.Context, addr string) error {
	dialer := net.Dialer{Timeout: time.Second}
	for {
		c, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", addr, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
