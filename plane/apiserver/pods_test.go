package apiserver_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"
)

func TestNewPodIsCompletedAsInKubernetes(t *testing.T) {
	namespace := one.namespace(t)
	in := newPod(namespace, "p")
	in.Status.Phase = corev1.PodRunning // not theirs to say
	pod := must(one.CoreV1().Pods(namespace).Create(t.Context(), in, metav1.CreateOptions{}))(t)
	if pod.Status.Phase != corev1.PodPending || pod.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("got phase %s, class %s; want Pending, BestEffort", pod.Status.Phase, pod.Status.QOSClass)
	}
	if pod.Generation != 1 || pod.Spec.ServiceAccountName != "default" || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("got generation %d, account %q, restart %q", pod.Generation, pod.Spec.ServiceAccountName, pod.Spec.RestartPolicy)
	}
	if pod.Spec.Priority == nil || *pod.Spec.Priority != 0 || *pod.Spec.PreemptionPolicy != corev1.PreemptLowerPriority {
		t.Errorf("got priority %v, policy %v", pod.Spec.Priority, pod.Spec.PreemptionPolicy)
	}
	for i, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if got := pod.Spec.Tolerations[i]; got.Key != key || *got.TolerationSeconds != 2 {
			t.Errorf("got toleration %+v, want %s for 2 s", got, key)
		}
	}
}

func TestQualityOfServiceFollowsRequestsAndLimits(t *testing.T) {
	namespace := one.namespace(t)
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	tests := []struct {
		name             string
		requests, limits corev1.ResourceList
		want             corev1.PodQOSClass
	}{
		{"nothing", nil, nil, corev1.PodQOSBestEffort},
		{"limits-alone", nil, list("1", "1Gi"), corev1.PodQOSGuaranteed},
		{"equal", list("1", "1Gi"), list("1", "1Gi"), corev1.PodQOSGuaranteed},
		{"less-asked", list("1", "1Gi"), list("2", "1Gi"), corev1.PodQOSBurstable},
		{"memory-alone", list("", "1Gi"), list("", "1Gi"), corev1.PodQOSBurstable},
	}
	for _, test := range tests {
		pod := newPod(namespace, test.name)
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: test.requests, Limits: test.limits}
		pod = must(one.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}))(t)
		if got := pod.Status.QOSClass; got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestPodIsBoundOnce(t *testing.T) {
	namespace := one.namespace(t)
	boundPod(t, namespace, "p")
	pod := must(one.CoreV1().Pods(namespace).Get(t.Context(), "p", metav1.GetOptions{}))(t)
	if pod.Spec.NodeName != "node-1" || pod.Status.Conditions[0].Type != corev1.PodScheduled || pod.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("got node %q, conditions %v", pod.Spec.NodeName, pod.Status.Conditions)
	}
	err := bind(t, namespace, "p", "node-2")
	wantReason(t, err, metav1.StatusReasonConflict)
	wantError(t, err, `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "node-1"`)
	wantReason(t, bind(t, namespace, "missing", "node-1"), metav1.StatusReasonNotFound)
	wantError(t, bind(t, namespace, "p", ""), `target.name: Required value`)
}

func TestSpecAndStatusOfAPodAreWrittenApart(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	pods := one.CoreV1().Pods(namespace)
	must(pods.Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	both := []byte(`{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"main","image":"new:1"}]},"status":{"phase":"Running"}}`)
	pod := must(pods.Patch(ctx, "p", types.StrategicMergePatchType, both, metav1.PatchOptions{}))(t)
	if pod.Spec.Containers[0].Image != "new:1" || pod.Status.Phase != corev1.PodPending || pod.Generation != 2 {
		t.Errorf("main: got image %s, phase %s, generation %d", pod.Spec.Containers[0].Image, pod.Status.Phase, pod.Generation)
	}
	both = []byte(`{"spec":{"containers":[{"name":"main","image":"new:2"}]},"status":{"phase":"Running"}}`)
	pod = must(pods.Patch(ctx, "p", types.StrategicMergePatchType, both, metav1.PatchOptions{}, "status"))(t)
	if pod.Spec.Containers[0].Image != "new:1" || pod.Status.Phase != corev1.PodRunning || pod.Generation != 2 {
		t.Errorf("status: got image %s, phase %s, generation %d", pod.Spec.Containers[0].Image, pod.Status.Phase, pod.Generation)
	}
	_, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"spec":{"restartPolicy":"Never"}}`), metav1.PatchOptions{})
	wantError(t, err, "spec: Forbidden: pod updates may not change fields other than")
}

func TestEvictionEndsAPodAndSaysWhy(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	boundPod(t, namespace, "p")
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}}
	if err := one.CoreV1().Pods(namespace).EvictV1(ctx, eviction); err != nil {
		t.Fatal(err)
	}
	pod := must(one.CoreV1().Pods(namespace).Get(ctx, "p", metav1.GetOptions{}))(t)
	if pod.DeletionTimestamp == nil {
		t.Error("deletion did not begin")
	}
	last := pod.Status.Conditions[len(pod.Status.Conditions)-1]
	if last.Type != corev1.DisruptionTarget || last.Reason != "EvictionByEvictionAPI" {
		t.Errorf("got condition %+v, want DisruptionTarget", last)
	}
	eviction.Name = "missing"
	wantReason(t, one.CoreV1().Pods(namespace).EvictV1(ctx, eviction), metav1.StatusReasonNotFound)
}

func TestRuntimeClassGivesItsOverheadAndPlacement(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	class := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "oci-" + namespace}, Handler: "oci",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "oci"}},
	}
	must(one.NodeV1().RuntimeClasses().Create(ctx, class, metav1.CreateOptions{}))(t)
	pod := newPod(namespace, "p")
	pod.Spec.RuntimeClassName = &class.Name
	pod = must(one.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}))(t)
	if got := pod.Spec.Overhead.Memory().String(); got != "10Mi" || pod.Spec.NodeSelector["runtime"] != "oci" {
		t.Errorf("got overhead %s, selector %v", got, pod.Spec.NodeSelector)
	}
}

// nodeServer is a node that serves container logs to those with the API
// server's certificate.
func nodeServer(t *testing.T, name string, handler http.HandlerFunc) {
	t.Helper()
	pair := must(one.ca.Server("system:node:"+name, []string{"127.0.0.1"}))(t)
	cert := must(pair.TLS())(t)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: one.ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number := must(strconv.Atoi(port))(t)
	must(one.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(number)}},
		},
	}, metav1.CreateOptions{}))(t)
}

// readLogs reads a log to its end, as kubectl does.
func readLogs(t *testing.T, namespace, name string, opts corev1.PodLogOptions) ([]byte, error) {
	t.Helper()
	stream, err := one.CoreV1().Pods(namespace).GetLogs(name, &opts).Stream(t.Context())
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

func TestLogsComeFromTheNodeUnderOurIdentity(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	node := "node-" + namespace
	nodeServer(t, node, func(w http.ResponseWriter, r *http.Request) {
		if who := r.TLS.PeerCertificates[0].Subject.CommonName; who != "kube-apiserver-kubelet-client" {
			http.Error(w, "who are you, "+who, http.StatusForbidden)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/waits/main") {
			http.Error(w, `container "main" in pod "waits" is waiting to start: ContainerCreating`, http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s?%s", r.URL.Path, r.URL.RawQuery)
	})
	pods := one.CoreV1().Pods(namespace)
	for _, name := range []string{"talks", "waits"} {
		must(pods.Create(ctx, newPod(namespace, name), metav1.CreateOptions{}))(t)
		if err := bind(t, namespace, name, node); err != nil {
			t.Fatal(err)
		}
	}
	tail := int64(5)
	text := must(readLogs(t, namespace, "talks", corev1.PodLogOptions{Follow: true, TailLines: &tail, Previous: true}))(t)
	if got, want := string(text), "/containerLogs/"+namespace+"/talks/main?follow=true&previous=true&tailLines=5"; got != want {
		t.Errorf("got request %s, want %s", got, want)
	}
	_, err := readLogs(t, namespace, "waits", corev1.PodLogOptions{})
	wantReason(t, err, metav1.StatusReasonBadRequest)
	wantError(t, err, `container "main" in pod "waits" is waiting to start: ContainerCreating`)
}

func TestLogErrorsSayWhichContainerIsMeant(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	pods := one.CoreV1().Pods(namespace)
	pod := newPod(namespace, "two")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side", Image: "i"})
	pod.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "i"}}
	must(pods.Create(ctx, pod, metav1.CreateOptions{}))(t)
	negative := int64(-1)
	tests := []struct {
		name string
		opts corev1.PodLogOptions
		want string
	}{
		{"none named", corev1.PodLogOptions{}, "a container name must be specified for pod two, choose one of: [main side] or one of the init containers: [first]"},
		{"unknown", corev1.PodLogOptions{Container: "x"}, "container x is not valid for pod two"},
		{"negative tail", corev1.PodLogOptions{Container: "main", TailLines: &negative}, "tailLines: Invalid value: -1: must be greater than or equal to 0"},
	}
	for _, test := range tests {
		_, err := readLogs(t, namespace, "two", test.opts)
		t.Run(test.name, func(t *testing.T) { wantError(t, err, test.want) })
	}
	if text := must(readLogs(t, namespace, "two", corev1.PodLogOptions{Container: "side"}))(t); len(text) > 0 {
		t.Errorf("got log %q of a pod without a node, want none", text)
	}
}

func TestExecSaysThatTheRuntimeHasNone(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	url := one.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name("p").SubResource("exec").Param("command", "ls").URL()
	exec := must(remotecommand.NewSPDYExecutor(one.admin, http.MethodPost, url))(t)
	err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard})
	wantError(t, err, "exec is not supported by the wasm runtime")
}
