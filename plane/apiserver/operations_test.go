package apiserver_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/drain"
)

// audited waits for lines of the audit log that satisfy want.
func audited(t *testing.T, what string, want func(auditv1.Event) bool) auditv1.Event {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		f, err := os.Open(one.auditPath)
		if err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var e auditv1.Event
			if json.Unmarshal(s.Bytes(), &e) == nil && want(e) {
				_ = f.Close()
				return e
			}
		}
		_ = f.Close()
	}
	t.Fatalf("the audit log never got %s", what)
	return auditv1.Event{}
}

func TestAuditLogSaysWhoDidWhatAndNeverSecrets(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s"}, StringData: map[string]string{"password": "correct-horse-battery"}}
	must(one.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}))(t)
	must(one.CoreV1().Secrets(namespace).Get(ctx, "s", metav1.GetOptions{}))(t)
	on := func(verb string) func(auditv1.Event) bool {
		return func(e auditv1.Event) bool {
			return e.Verb == verb && e.ObjectRef != nil && e.ObjectRef.Namespace == namespace && e.ObjectRef.Resource == "secrets"
		}
	}
	for _, verb := range []string{"create", "get"} {
		e := audited(t, verb, on(verb))
		if e.User.Username != "kubernetes-admin" || e.Level != auditv1.LevelMetadata || e.RequestObject != nil || e.ResponseObject != nil {
			t.Errorf("%s: got %+v, want metadata of kubernetes-admin", verb, e)
		}
	}
	// Somebody who proves nothing, with a token that must not be written.
	stranger := rest.AnonymousClientConfig(one.admin)
	stranger.BearerToken = "forged-token-of-nobody"
	client := must(kubernetes.NewForConfig(stranger))(t)
	if _, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}); err == nil {
		t.Fatal("got pods with a forged token")
	}
	e := audited(t, "the failed authentication", func(e auditv1.Event) bool {
		return e.User.Username == "" && strings.Contains(e.RequestURI, namespace)
	})
	if e.ResponseStatus == nil || e.ResponseStatus.Code != http.StatusUnauthorized {
		t.Errorf("got status %+v, want 401", e.ResponseStatus)
	}
	text := string(must(os.ReadFile(one.auditPath))(t))
	for _, never := range []string{"correct-horse-battery", "forged-token-of-nobody"} {
		if strings.Contains(text, never) {
			t.Errorf("got %q in the audit log", never)
		}
	}
}

func TestDrainEmptiesANodeAsKubectlDoes(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	name := "drain-" + namespace
	node := must(one.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	if err := bind(t, namespace, "p", name); err != nil {
		t.Fatal(err)
	}
	helper := &drain.Helper{
		Ctx: ctx, Client: one.Clientset, Force: true, GracePeriodSeconds: 0, Timeout: 30 * time.Second,
		IgnoreAllDaemonSets: true, DeleteEmptyDirData: true, Out: io.Discard, ErrOut: io.Discard,
	}
	cordoned := func(want bool) {
		t.Helper()
		if err := drain.RunCordonOrUncordon(helper, node, want); err != nil {
			t.Fatal(err)
		}
		if node = must(one.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}))(t); node.Spec.Unschedulable != want {
			t.Errorf("got unschedulable %v, want %v", node.Spec.Unschedulable, want)
		}
	}
	cordoned(true)
	if err := drain.RunNodeDrain(helper, name); err != nil {
		t.Fatal(err)
	}
	list := must(one.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}))(t)
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			t.Errorf("got pod %s on a node that was drained", p.Name)
		}
	}
	cordoned(false)
	audited(t, "the eviction", func(e auditv1.Event) bool {
		return e.ObjectRef != nil && e.ObjectRef.Namespace == namespace && e.ObjectRef.Subresource == "eviction"
	})
}

func TestLogsOfADeadNodeFailInKubernetesWords(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	number := must(strconv.Atoi(port))(t)
	for name, row := range map[string]struct {
		port int
		want string
	}{
		"dead-" + namespace:   {number, "connect: connection refused"},
		"silent-" + namespace: {0, "kubeletEndpoint.port is not set: the node has not reported yet"},
	} {
		must(one.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{
				Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
				DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(row.port)}}, //nolint:gosec // a port
			},
		}, metav1.CreateOptions{}))(t)
		must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, name), metav1.CreateOptions{}))(t)
		if err := bind(t, namespace, name, name); err != nil {
			t.Fatal(err)
		}
		_, err := readLogs(t, namespace, name, corev1.PodLogOptions{})
		wantError(t, err, row.want)
	}
}

func TestLogsDoNotComeFromWhoeverHasTheAddress(t *testing.T) {
	ctx, namespace := t.Context(), one.namespace(t)
	rogue, node := "rogue-"+namespace, "honest-"+namespace
	nodeServer(t, rogue, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "lies") })
	there := must(one.CoreV1().Nodes().Get(ctx, rogue, metav1.GetOptions{}))(t)
	must(one.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: there.Status}, metav1.CreateOptions{}))(t)
	must(one.CoreV1().Pods(namespace).Create(ctx, newPod(namespace, "p"), metav1.CreateOptions{}))(t)
	if err := bind(t, namespace, "p", node); err != nil {
		t.Fatal(err)
	}
	_, err := readLogs(t, namespace, "p", corev1.PodLogOptions{})
	wantError(t, err, `is not node `+node+`: its certificate is for "system:node:`+rogue+`"`)
}
