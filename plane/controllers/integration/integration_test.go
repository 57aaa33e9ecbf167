// Package integration runs every controller and the scheduler on a whole control
// plane: store, API server, authorisation and admission as in production. A test
// plays the nodes and speaks HTTPS, like any client.
package integration

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"copepod/plane"
)

// patience bounds every wait; nothing is expected to take a hundredth of it.
const patience = time.Minute

type cluster struct {
	*kubernetes.Clientset
	t   testing.TB
	ctx context.Context
	log *complaints
}

// complaints counts log lines in which a controller was refused something that
// it needs.
type complaints struct {
	slog.Handler
	forbidden atomic.Pointer[string]
}

func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); strings.Contains(text, "is forbidden: User") {
			c.forbidden.Store(&text)
		}
		return true
	})
	return nil
}

func (c *complaints) Enabled(context.Context, slog.Level) bool { return true }
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *complaints) WithGroup(string) slog.Handler            { return c }

// TestMain quiets the Kubernetes libraries once: their logger is global, and
// servers of an earlier test may still be reading it.
func TestMain(m *testing.M) {
	klog.SetLogger(klog.Logger{})
	os.Exit(m.Run())
}

func start(t testing.TB) *cluster {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network")
	}
	c := &cluster{t: t, log: &complaints{Handler: slog.NewTextHandler(io.Discard, nil)}}
	dir := filepath.Join(t.TempDir(), "data")
	p, err := plane.New(plane.Config{Dir: dir, Listener: listener, Log: slog.New(c.log)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if text := c.log.forbidden.Load(); text != nil {
			t.Errorf("got a controller refused: %s", *text)
		}
	})
	select {
	case <-p.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := p.WriteKubeconfig(file); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	c.Clientset, err = kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c.ctx = ctx
	return c
}

// eventually polls until what is as wanted.
func (c *cluster) eventually(what string, is func() string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	var last string
	for time.Now().Before(deadline) {
		if last = is(); last == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("%s: %s", what, last)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// hollow registers a ready node that nobody plays.
func (c *cluster) hollow(name string) {
	c.t.Helper()
	n := must(c.CoreV1().Nodes().Create(c.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}, metav1.CreateOptions{}))(c.t)
	n.Status = corev1.NodeStatus{
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")},
	}
	n.Status.Capacity, n.ResourceVersion = n.Status.Allocatable, ""
	must(c.CoreV1().Nodes().UpdateStatus(c.ctx, n, metav1.UpdateOptions{}))(c.t)
}

// node registers a ready node and plays it: bound pods run, deleted ones stop.
func (c *cluster) node(name string) {
	c.t.Helper()
	c.hollow(name)
	w := must(c.CoreV1().Pods("").Watch(c.ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name}))(c.t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if pod, ok := e.Object.(*corev1.Pod); ok && e.Type != "DELETED" {
				c.play(pod)
			}
		}
	}()
	c.t.Cleanup(func() { w.Stop(); <-done })
}

func (c *cluster) play(pod *corev1.Pod) {
	pods := c.CoreV1().Pods(pod.Namespace)
	if pod.DeletionTimestamp != nil {
		zero := int64(0)
		pods.Delete(c.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		return
	}
	if pod.Status.Phase != corev1.PodPending {
		return
	}
	patch := `{"status":{"phase":"Running","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}],"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`
	pods.Patch(c.ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
}

func deployment(namespace string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "web", Image: "hello:v1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
			}}}},
		},
	}
}

// rolledOut waits as kubectl rollout status does.
func (c *cluster) rolledOut(namespace string, replicas int32) {
	c.t.Helper()
	c.eventually("rollout", func() string {
		d, err := c.AppsV1().Deployments(namespace).Get(c.ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		s := d.Status
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != replicas || s.Replicas != replicas || s.AvailableReplicas != replicas {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
}

func TestDeploymentFromApplyToEndpointsAndBack(t *testing.T) {
	c := start(t)
	c.node("n1")
	c.node("n2")
	deployments := c.AppsV1().Deployments("default")
	must(c.CoreV1().Services("default").Create(c.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}},
	}, metav1.CreateOptions{}))(t)
	must(deployments.Create(c.ctx, deployment("default", 20), metav1.CreateOptions{}))(t)
	c.rolledOut("default", 20)
	c.eventually("endpoints", func() string { return c.endpoints("default", 20) })
	for _, node := range []string{"n1", "n2"} {
		list := must(c.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node}))(t)
		if len(list.Items) != 10 {
			t.Errorf("got %d pods on %s, want 10", len(list.Items), node)
		}
	}

	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"hello:v2"}]}}}}`
	must(deployments.Patch(c.ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}))(t)
	c.rolledOut("default", 20)
	d := must(deployments.Get(c.ctx, "web", metav1.GetOptions{}))(t)
	if d.Annotations["deployment.kubernetes.io/revision"] != "2" {
		t.Errorf("got annotations %v, want revision 2", d.Annotations)
	}
	c.eventually("events", func() string {
		return c.said("default", "web", "ScalingReplicaSet", "deployment-controller")
	})
	pod := must(c.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{}))(t).Items[0]
	c.eventually("events", func() string { return c.said("default", pod.Name, "Scheduled", "default-scheduler") })

	foreground := metav1.DeletePropagationForeground
	if err := deployments.Delete(c.ctx, "web", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	c.eventually("deletion", func() string {
		if _, err := deployments.Get(c.ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Sprint("the deployment is there: ", err)
		}
		pods := must(c.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{}))(t)
		sets := must(c.AppsV1().ReplicaSets("default").List(c.ctx, metav1.ListOptions{}))(t)
		if len(pods.Items)+len(sets.Items) > 0 {
			return fmt.Sprintf("%d pods, %d replica sets are left", len(pods.Items), len(sets.Items))
		}
		return ""
	})
	c.eventually("endpoints", func() string { return c.endpoints("default", 0) })
}

func (c *cluster) endpoints(namespace string, want int) string {
	list, err := c.DiscoveryV1().EndpointSlices(namespace).List(c.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		return err.Error()
	}
	ready := 0
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready && *s.Ports[0].Port == 8080 {
				ready++
			}
		}
	}
	if ready != want {
		return fmt.Sprintf("%d ready endpoints, want %d", ready, want)
	}
	return ""
}

func (c *cluster) said(namespace, object, reason, component string) string {
	list, err := c.CoreV1().Events(namespace).List(c.ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	if slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
		return e.InvolvedObject.Name == object && e.Reason == reason && e.Source.Component == component
	}) {
		return ""
	}
	return fmt.Sprintf("no %s of %s about %s among %d events", reason, component, object, len(list.Items))
}

func TestNamespaceComesWithItsAccountAndGoesWithItsContent(t *testing.T) {
	c := start(t)
	c.node("n1")
	must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}))(t)
	c.eventually("default account", func() string {
		if _, err := c.CoreV1().ServiceAccounts("team").Get(c.ctx, "default", metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		m, err := c.CoreV1().ConfigMaps("team").Get(c.ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(m.Data["ca.crt"], "BEGIN CERTIFICATE") {
			return "the ConfigMap holds no certificate"
		}
		return ""
	})
	must(c.AppsV1().Deployments("team").Create(c.ctx, deployment("team", 5), metav1.CreateOptions{}))(t)
	c.rolledOut("team", 5)
	if err := c.CoreV1().Namespaces().Delete(c.ctx, "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("deletion", func() string {
		ns, err := c.CoreV1().Namespaces().Get(c.ctx, "team", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprintf("the namespace is there: %v %+v", err, ns.Status)
	})
}

func TestPodThatFitsNowhereIsTold(t *testing.T) {
	c := start(t)
	c.node("n1")
	c.eventually("taints", func() string {
		n := must(c.CoreV1().Nodes().Get(c.ctx, "n1", metav1.GetOptions{}))(t)
		if len(n.Spec.Taints) > 0 {
			return fmt.Sprintf("%v", n.Spec.Taints)
		}
		return ""
	})
	d := deployment("default", 1)
	d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("99")
	must(c.AppsV1().Deployments("default").Create(c.ctx, d, metav1.CreateOptions{}))(t)
	c.eventually("condition", func() string {
		pods := must(c.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{}))(t)
		if len(pods.Items) != 1 {
			return fmt.Sprintf("%d pods", len(pods.Items))
		}
		for _, cond := range pods.Items[0].Status.Conditions {
			if cond.Reason == "Unschedulable" && cond.Message == "0/1 nodes are available: 1 Insufficient cpu." {
				return ""
			}
		}
		return fmt.Sprintf("%+v", pods.Items[0].Status.Conditions)
	})
	c.node("n2")
	n := must(c.CoreV1().Nodes().Get(c.ctx, "n2", metav1.GetOptions{}))(t)
	n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("100")
	n.Status.Capacity[corev1.ResourceCPU] = resource.MustParse("100")
	c.eventually("growth", func() string {
		n.ResourceVersion = ""
		if _, err := c.CoreV1().Nodes().UpdateStatus(c.ctx, n, metav1.UpdateOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	c.rolledOut("default", 1)
}
