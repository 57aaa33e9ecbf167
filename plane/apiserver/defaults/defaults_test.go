//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package defaults_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"copepod/plane/apiserver/defaults"
)

func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, rbacv1.AddToScheme,
		schedulingv1.AddToScheme, authenticationv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	defaults.Register(s)
	return s
}

// kinds are those with defaults.
func kinds() []runtime.Object {
	return []runtime.Object{
		&corev1.Pod{}, &corev1.PodTemplate{}, &corev1.Service{}, &corev1.Endpoints{}, &corev1.Secret{}, &corev1.Namespace{}, &corev1.Node{},
		&discoveryv1.EndpointSlice{}, &appsv1.Deployment{}, &appsv1.ReplicaSet{}, &rbacv1.RoleBinding{}, &rbacv1.ClusterRoleBinding{},
		&schedulingv1.PriorityClass{}, &authenticationv1.TokenRequest{},
	}
}

// Rows are JSON as a client sends it and as the server then has it: the second
// must hold all of the first's fields and those that are shown.
func TestWhatAClientLeavesOutIsFilledIn(t *testing.T) {
	scheme := newScheme(t)
	for _, row := range []struct {
		name string
		kind runtime.Object
		in   string
		want string
	}{
		{
			"pod", &corev1.Pod{},
			`{"spec":{"containers":[{"name":"web","image":"web"}]}}`,
			`{"metadata":{},"spec":{"containers":[{"name":"web","image":"web","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"Always"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true},"status":{}}`,
		},
		{
			"pod: a container's requests are its limits", &corev1.Pod{},
			`{"spec":{"containers":[{"name":"a","image":"a:1","resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"100.1m"}}}]}}`,
			`{"metadata":{},"spec":{"containers":[{"name":"a","image":"a:1","resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"101m","memory":"1Gi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true},"status":{}}`,
		},
		{
			"pod: the address lists follow the single addresses", &corev1.Pod{},
			`{"spec":{"containers":null,"serviceAccount":"old"},"status":{"podIP":"10.0.0.1"}}`,
			`{"metadata":{},"spec":{"containers":null,"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"old","serviceAccount":"old","securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true},"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}]}}`,
		},
		{
			"deployment", &appsv1.Deployment{},
			`{"spec":{"selector":null,"template":{"spec":{"containers":null}}}}`,
			`{"metadata":{},"spec":{"replicas":1,"selector":null,"template":{"metadata":{},"spec":{"containers":null,"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{}}`,
		},
		{
			"deployment: recreate rolls nothing", &appsv1.Deployment{},
			`{"spec":{"replicas":0,"selector":null,"strategy":{"type":"Recreate"},"template":{"spec":{"containers":null}}}}`,
			`{"metadata":{},"spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":null,"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},"strategy":{"type":"Recreate"},"revisionHistoryLimit":10,"progressDeadlineSeconds":600},"status":{}}`,
		},
		{
			"service", &corev1.Service{},
			`{"spec":{"clusterIP":"None","ports":[{"port":80}]}}`,
			`{"metadata":{},"spec":{"ports":[{"protocol":"TCP","port":80,"targetPort":80}],"clusterIP":"None","clusterIPs":["None"],"type":"ClusterIP","sessionAffinity":"None","ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}}`,
		},
		{
			"service: a node port is open to the outside", &corev1.Service{},
			`{"spec":{"type":"NodePort","sessionAffinity":"ClientIP","ports":[{"port":80,"targetPort":"web"}]}}`,
			`{"metadata":{},"spec":{"ports":[{"protocol":"TCP","port":80,"targetPort":"web"}],"type":"NodePort","sessionAffinity":"ClientIP","externalTrafficPolicy":"Cluster","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}}`,
		},
		{
			"secret: text is data, and is not kept twice", &corev1.Secret{},
			`{"data":{"a":"MQ=="},"stringData":{"a":"2","b":"3"}}`,
			`{"metadata":{},"data":{"a":"Mg==","b":"Mw=="},"type":"Opaque"}`,
		},
		{
			"namespace: a new one", &corev1.Namespace{},
			`{"metadata":{"name":"web"}}`,
			`{"metadata":{"name":"web","labels":{"kubernetes.io/metadata.name":"web"}},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}`,
		},
		{
			"namespace: one whose finalizers have run", &corev1.Namespace{},
			`{"metadata":{"name":"web","uid":"1"},"status":{"phase":"Terminating"}}`,
			`{"metadata":{"name":"web","uid":"1","labels":{"kubernetes.io/metadata.name":"web"}},"spec":{},"status":{"phase":"Terminating"}}`,
		},
		{
			"endpoint slice", &discoveryv1.EndpointSlice{},
			`{"addressType":"IPv4","endpoints":null,"ports":[{"port":80}]}`,
			`{"metadata":{},"addressType":"IPv4","endpoints":null,"ports":[{"name":"","protocol":"TCP","port":80}]}`,
		},
		{
			"role binding", &rbacv1.RoleBinding{},
			`{"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}]}`,
			`{"metadata":{},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"u"},{"kind":"ServiceAccount","name":"s"}],"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"}}`,
		},
		{
			"token request", &authenticationv1.TokenRequest{},
			`{"spec":{"audiences":null}}`,
			`{"metadata":{},"spec":{"audiences":null,"expirationSeconds":3600,"boundObjectRef":null},"status":{"token":"","expirationTimestamp":null}}`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			obj := row.kind
			if err := json.Unmarshal([]byte(row.in), obj); err != nil {
				t.Fatal(err)
			}
			scheme.Default(obj)
			got, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decode(t, []byte(row.want)), decode(t, got)); diff != "" {
				t.Errorf("got %s, want %s\n%s", got, row.want, diff)
			}
		})
	}
}

func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestImagesThatMayMoveAreAlwaysPulled(t *testing.T) {
	scheme := newScheme(t)
	for image, want := range map[string]corev1.PullPolicy{
		"hello":                      corev1.PullAlways,
		"hello:latest":               corev1.PullAlways,
		"localhost:5000/team/hello":  corev1.PullAlways,
		"hello:1.2":                  corev1.PullIfNotPresent,
		"localhost:5000/team/hello:": corev1.PullIfNotPresent, // no image name
		"hello@sha256:" + digest:     corev1.PullIfNotPresent,
		"NOT A NAME":                 corev1.PullIfNotPresent,
		"":                           corev1.PullIfNotPresent,
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}}
		scheme.Default(p)
		if got := p.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("image %q: got %s, want %s", image, got, want)
		}
	}
}

const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestVolumesProbesAndVariablesAreFilledIn(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		HostNetwork: true,
		Volumes: []corev1.Volume{
			{Name: "empty"},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{FieldRef: &corev1.ObjectFieldSelector{}}}}},
			}}}},
		},
		Containers: []corev1.Container{{
			Ports:          []corev1.ContainerPort{{ContainerPort: 80}},
			Env:            []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{}}}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}},
		}},
	}}
	newScheme(t).Default(p)
	c := p.Spec.Containers[0]
	for _, row := range []struct {
		name      string
		got, want any
	}{
		{"volume without a source", p.Spec.Volumes[0].EmptyDir != nil, true},
		{"projected mode", *p.Spec.Volumes[1].Projected.DefaultMode, int32(0o644)},
		{"token lifetime", *p.Spec.Volumes[1].Projected.Sources[0].ServiceAccountToken.ExpirationSeconds, int64(3600)},
		{"file's field", p.Spec.Volumes[1].Projected.Sources[1].DownwardAPI.Items[0].FieldRef.APIVersion, "v1"},
		{"variable's field", c.Env[0].ValueFrom.FieldRef.APIVersion, "v1"},
		{"port", c.Ports[0], corev1.ContainerPort{ContainerPort: 80, HostPort: 80, Protocol: corev1.ProtocolTCP}},
		{"probe's request", *c.ReadinessProbe.HTTPGet, corev1.HTTPGetAction{Path: "/", Scheme: corev1.URISchemeHTTP}},
		{"probe's times", [4]int32{c.ReadinessProbe.TimeoutSeconds, c.ReadinessProbe.PeriodSeconds, c.ReadinessProbe.SuccessThreshold, c.ReadinessProbe.FailureThreshold}, [4]int32{1, 10, 1, 3}},
	} {
		if diff := cmp.Diff(row.want, row.got); diff != "" {
			t.Errorf("%s: got %v, want %v", row.name, row.got, row.want)
		}
	}
}

// Stored objects are defaulted again whenever they are read.
func TestDefaultingTwiceIsDefaultingOnce(t *testing.T) {
	scheme := newScheme(t)
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), serializer.NewCodecFactory(scheme))
	for _, kind := range kinds() {
		for range 20 {
			obj := kind.DeepCopyObject()
			fill.Fill(obj)
			scheme.Default(obj)
			once := obj.DeepCopyObject()
			scheme.Default(obj)
			if diff := cmp.Diff(once, obj); diff != "" {
				t.Fatalf("%T: got a difference the second time, want none:\n%s", obj, diff)
			}
		}
	}
}

// FuzzDefaults feeds objects as they come off the wire.
func FuzzDefaults(f *testing.F) {
	scheme := newScheme(f)
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(2), serializer.NewCodecFactory(scheme))
	for i, kind := range kinds() {
		fill.Fill(kind)
		data, err := kind.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		all := kinds()
		obj := all[int(which)%len(all)]
		if err := obj.(interface{ Unmarshal([]byte) error }).Unmarshal(data); err != nil {
			t.Skip("not an object")
		}
		scheme.Default(obj)
	})
}

func ExampleRegister() {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	defaults.Register(scheme)

	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "hello:1.0"}}}}
	scheme.Default(pod)
	fmt.Println(pod.Spec.RestartPolicy, pod.Spec.Containers[0].ImagePullPolicy)
	// Output: Always IfNotPresent
}
