//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package columns_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/utils/ptr"

	"copepod/plane/apiserver/columns"
)

func gk(group, kind string) schema.GroupKind { return schema.GroupKind{Group: group, Kind: kind} }

// kinds are those with a table.
func kinds() map[schema.GroupKind]runtime.Object {
	return map[schema.GroupKind]runtime.Object{
		gk("", "ConfigMap"): &corev1.ConfigMap{}, gk("", "Endpoints"): &corev1.Endpoints{}, gk("", "Event"): &corev1.Event{},
		gk("", "Namespace"): &corev1.Namespace{}, gk("", "Node"): &corev1.Node{}, gk("", "Pod"): &corev1.Pod{},
		gk("", "Secret"): &corev1.Secret{}, gk("", "Service"): &corev1.Service{}, gk("", "ServiceAccount"): &corev1.ServiceAccount{},
		gk("apps", "Deployment"): &appsv1.Deployment{}, gk("apps", "ReplicaSet"): &appsv1.ReplicaSet{},
		gk("autoscaling", "Scale"): &autoscalingv1.Scale{}, gk("coordination.k8s.io", "Lease"): &coordinationv1.Lease{},
		gk("discovery.k8s.io", "EndpointSlice"): &discoveryv1.EndpointSlice{}, gk("events.k8s.io", "Event"): &eventsv1.Event{},
		gk("node.k8s.io", "RuntimeClass"): &nodev1.RuntimeClass{}, gk("scheduling.k8s.io", "PriorityClass"): &schedulingv1.PriorityClass{},
		gk(rbacv1.GroupName, "RoleBinding"): &rbacv1.RoleBinding{}, gk(rbacv1.GroupName, "ClusterRoleBinding"): &rbacv1.ClusterRoleBinding{},
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: ago(3 * time.Hour)}
}

func TestRowsReadAsKubectlPrintsThem(t *testing.T) {
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a:1"}, {Name: "b", Image: "b:2"}}}}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	for _, row := range []struct {
		name string
		kind schema.GroupKind
		obj  runtime.Object
		want []any
	}{
		{"deployment", gk("apps", "Deployment"), &appsv1.Deployment{
			ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template},
			Status: appsv1.DeploymentStatus{ReadyReplicas: 1, UpdatedReplicas: 2, AvailableReplicas: 1},
		}, []any{"web", "1/3", int64(2), int64(1), "3h", "a,b", "a:1,b:2", "app=web"}},
		{"replica set", gk("apps", "ReplicaSet"), &appsv1.ReplicaSet{
			ObjectMeta: meta("web-1"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template},
			Status: appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1},
		}, []any{"web-1", int64(3), int64(2), int64(1), "3h", "a,b", "a:1,b:2", "app=web"}},
		{"service", gk("", "Service"), &corev1.Service{
			ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{Type: "NodePort", ClusterIPs: []string{"10.96.0.7"}, Selector: map[string]string{"app": "web"},
				Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: "TCP"}, {Port: 53, Protocol: "UDP"}}},
		}, []any{"web", "NodePort", "10.96.0.7", "<none>", "80:30080/TCP,53/UDP", "3h", "app=web"}},
		{"service: load balancer that waits", gk("", "Service"), &corev1.Service{
			ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{Type: "LoadBalancer"},
		}, []any{"web", "LoadBalancer", "<none>", "<pending>", "<none>", "3h", "<none>"}},
		{"service: load balancer", gk("", "Service"), &corev1.Service{
			ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{Type: "LoadBalancer", ExternalIPs: []string{"1.1.1.1"}},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "9.9.9.9"}, {Hostname: "lb.example"}, {IP: "8.8.8.8"}}}},
		}, []any{"web", "LoadBalancer", "<none>", "8.8.8.8,9.9.9.9,lb.example,1.1.1.1", "<none>", "3h", "<none>"}},
		{"service: external name", gk("", "Service"), &corev1.Service{
			ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{Type: "ExternalName", ExternalName: "db.example"},
		}, []any{"db", "ExternalName", "<none>", "db.example", "<none>", "3h", "<none>"}},
		{"node", gk("", "Node"), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", CreationTimestamp: ago(49 * time.Hour), Labels: map[string]string{
				"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/": "", "kubernetes.io/role": "edge"}},
			Spec: corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "True"}},
				Addresses:  []corev1.NodeAddress{{Type: "Hostname", Address: "n1"}, {Type: "InternalIP", Address: "192.168.0.2"}},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OSImage: "Linux", ContainerRuntimeVersion: "wazero://1.12"},
			},
		}, []any{"n1", "Ready,SchedulingDisabled", "control-plane,edge,worker", "2d1h", "v1.37.2", "192.168.0.2", "<none>", "Linux", "<unknown>", "wazero://1.12"}},
		{"node that has not reported", gk("", "Node"), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}},
			[]any{"n1", "Unknown", "<none>", "<unknown>", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"}},
		{"event", gk("", "Event"), &corev1.Event{
			ObjectMeta: meta("e"), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", FieldPath: "spec.containers{a}"},
			Type: "Warning", Reason: "BackOff", Message: " back-off\n", Count: 4, FirstTimestamp: ago(time.Hour), LastTimestamp: ago(time.Minute), Source: corev1.EventSource{Component: "node", Host: "n1"},
		}, []any{"60s", "Warning", "BackOff", "pod/web", "spec.containers{a}", "node, n1", "back-off", "60m", int64(4), "e"}},
		{"event of the newer API", gk("events.k8s.io", "Event"), &eventsv1.Event{
			ObjectMeta: meta("e"), Regarding: corev1.ObjectReference{Kind: "Node"}, Type: "Normal", Reason: "Ready", Note: "ready",
			EventTime: metav1.NewMicroTime(ago(time.Hour).Time), ReportingController: "node", Series: &eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(ago(time.Second).Time)},
		}, []any{"1s", "Normal", "Ready", "node", "", "node", "ready", "60m", int64(2), "e"}},
		{"endpoints", gk("", "Endpoints"), &corev1.Endpoints{ObjectMeta: meta("web"), Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}, {IP: "fd00::3"}, {IP: "10.0.0.4"}}, Ports: []corev1.EndpointPort{{Port: 80}},
		}}}, []any{"web", "10.0.0.1:80,10.0.0.2:80,[fd00::3]:80 + 1 more...", "3h"}},
		{"endpoint slice", gk("discovery.k8s.io", "EndpointSlice"), &discoveryv1.EndpointSlice{
			ObjectMeta: meta("web-x"), AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Port: ptr.To[int32](80)}, {Name: ptr.To("dns")}, {}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1", "10.0.0.2"}}, {Addresses: []string{"10.0.0.3"}}, {Addresses: []string{"10.0.0.4", "10.0.0.5"}}},
		}, []any{"web-x", "IPv4", "80,dns,*", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...", "3h"}},
		{"endpoint slice of nothing", gk("discovery.k8s.io", "EndpointSlice"), &discoveryv1.EndpointSlice{ObjectMeta: meta("x"), AddressType: "IPv4"},
			[]any{"x", "IPv4", "<unset>", "<unset>", "3h"}},
		{"config map", gk("", "ConfigMap"), &corev1.ConfigMap{ObjectMeta: meta("c"), Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}, []any{"c", int64(2), "3h"}},
		{"secret", gk("", "Secret"), &corev1.Secret{ObjectMeta: meta("s"), Type: "Opaque", Data: map[string][]byte{"a": nil}}, []any{"s", "Opaque", int64(1), "3h"}},
		{"service account", gk("", "ServiceAccount"), &corev1.ServiceAccount{ObjectMeta: meta("default")}, []any{"default", int64(0), "3h"}},
		{"namespace", gk("", "Namespace"), &corev1.Namespace{ObjectMeta: meta("n"), Status: corev1.NamespaceStatus{Phase: "Active"}}, []any{"n", "Active", "3h"}},
		{"lease", gk("coordination.k8s.io", "Lease"), &coordinationv1.Lease{ObjectMeta: meta("l"), Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("me")}}, []any{"l", "me", "3h"}},
		{"runtime class", gk("node.k8s.io", "RuntimeClass"), &nodev1.RuntimeClass{ObjectMeta: meta("wasm"), Handler: "wasm"}, []any{"wasm", "wasm", "3h"}},
		{"priority class", gk("scheduling.k8s.io", "PriorityClass"), &schedulingv1.PriorityClass{ObjectMeta: meta("p"), Value: 7, PreemptionPolicy: ptr.To(corev1.PreemptNever)}, []any{"p", int64(7), false, "3h", "Never"}},
		{"scale", gk("autoscaling", "Scale"), &autoscalingv1.Scale{ObjectMeta: meta("web"), Spec: autoscalingv1.ScaleSpec{Replicas: 3}, Status: autoscalingv1.ScaleStatus{Replicas: 2}}, []any{"web", int64(3), int64(2), "3h"}},
		{"role binding", gk(rbacv1.GroupName, "RoleBinding"), &rbacv1.RoleBinding{ObjectMeta: meta("b"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "r"}, Subjects: []rbacv1.Subject{
			{Kind: "User", Name: "u1"}, {Kind: "User", Name: "u2"}, {Kind: "Group", Name: "g"}, {Kind: "ServiceAccount", Namespace: "ns", Name: "s"},
		}}, []any{"b", "Role/r", "3h", "u1, u2", "g", "ns/s"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, ok := columns.For(row.kind)
			if !ok {
				t.Fatalf("%v: got no table, want one", row.kind)
			}
			if diff := cmp.Diff(row.want, c.Row(row.obj, now)); diff != "" {
				t.Errorf("got (+), want (-):\n%s", diff)
			}
		})
	}
}

func TestTheColumnsAreThoseOfKubernetes(t *testing.T) {
	for kind, want := range map[schema.GroupKind][]string{
		gk("", "Pod"):            {"Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"},
		gk("", "Node"):           {"Name", "Status", "Roles", "Age", "Version", "+Internal-IP", "+External-IP", "+OS-Image", "+Kernel-Version", "+Container-Runtime"},
		gk("", "Service"):        {"Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"},
		gk("", "Event"):          {"Last Seen", "Type", "Reason", "Object", "+Subobject", "+Source", "Message", "+First Seen", "+Count", "+Name"},
		gk("apps", "Deployment"): {"Name", "Ready", "Up-to-date", "Available", "Age", "+Containers", "+Images", "+Selector"},
		gk("apps", "ReplicaSet"): {"Name", "Desired", "Current", "Ready", "Age", "+Containers", "+Images", "+Selector"},
	} {
		c, _ := columns.For(kind)
		var got []string
		for _, d := range c.Definitions {
			if d.Priority > 0 {
				d.Name = "+" + d.Name
			}
			got = append(got, d.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %q, want %q", kind, got, want)
		}
	}
}

func TestEveryColumnIsDescribedAndHasACell(t *testing.T) {
	for kind, obj := range kinds() {
		c, ok := columns.For(kind)
		if !ok {
			t.Errorf("%v: got no table, want one", kind)
			continue
		}
		for _, d := range c.Definitions {
			if d.Description == "" {
				t.Errorf("%v: column %s: got no description, want one", kind, d.Name)
			}
		}
		if got, want := len(c.Row(obj, now)), len(c.Definitions); got != want {
			t.Errorf("%v: got %d cells, want %d", kind, got, want)
		}
		if got := c.Row(&corev1.PodList{}, now); got != nil {
			t.Errorf("%v: a row of another kind: got %v, want nil", kind, got)
		}
	}
}

func TestAKindThatWeDoNotServeHasNoTable(t *testing.T) {
	if _, ok := columns.For(gk("example.com", "Pod")); ok {
		t.Error("got a table, want none")
	}
}

// FuzzRow feeds objects as they come off the wire.
func FuzzRow(f *testing.F) {
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), serializer.NewCodecFactory(runtime.NewScheme()))
	var order []schema.GroupKind
	for kind := range kinds() {
		order = append(order, kind)
	}
	slices.SortFunc(order, func(a, b schema.GroupKind) int { return strings.Compare(a.String(), b.String()) })
	for i, kind := range order {
		obj := kinds()[kind]
		fill.Fill(obj)
		data, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		kind := order[int(which)%len(order)]
		obj := kinds()[kind]
		if err := obj.(interface{ Unmarshal([]byte) error }).Unmarshal(data); err != nil {
			t.Skip("not an object")
		}
		c, _ := columns.For(kind)
		for i, cell := range c.Row(obj, now) {
			switch cell.(type) {
			case string, int64, bool:
			default:
				t.Errorf("%v: column %s: got a cell of type %T, want string, int64 or bool", kind, c.Definitions[i].Name, cell)
			}
		}
	})
}

func ExampleFor() {
	c, _ := columns.For(schema.GroupKind{Kind: "Namespace"})
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ns := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "web", CreationTimestamp: metav1.NewTime(made)},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
	for _, d := range c.Definitions {
		fmt.Print(d.Name, " ")
	}
	fmt.Println(c.Row(ns, made.Add(36*time.Hour)))
	// Output: Name Status Age [web Active 36h]
}
