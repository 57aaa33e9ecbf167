package pods

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/downward"
	"copepod/node/runtime"
)

type shelf struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
}

func (s shelf) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if data, ok := s.configMaps[name]; ok {
		return &v1.ConfigMap{Data: data}, nil
	}
	return nil, fmt.Errorf("configmap %q: %w", name, apierrors.NewNotFound(v1.Resource("configmaps"), name))
}

func (s shelf) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	if data, ok := s.secrets[name]; ok {
		return &v1.Secret{Data: data}, nil
	}
	return nil, fmt.Errorf("secret %q: %w", name, apierrors.NewNotFound(v1.Resource("secrets"), name))
}

func TestEnvironmentOfAContainer(t *testing.T) {
	objects := shelf{
		configMaps: map[string]map[string]string{"app": {"color": "red", "bad=name": "x"}},
		secrets:    map[string]map[string][]byte{"pass": {"word": []byte("xyzzy")}},
	}
	yes := true
	from := func(s v1.EnvVarSource) *v1.EnvVarSource { return &s }
	key := func(name, key string, optional *bool) *v1.EnvVarSource {
		return from(v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: name}, Key: key, Optional: optional}})
	}
	for _, row := range []struct {
		name string
		env  []v1.EnvVar
		bulk []v1.EnvFromSource
		want string
		err  string
	}{
		{"literals", []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}, nil, "A=1 B=2", ""},
		{"references look back", []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)$(C)$$(A)$"}, {Name: "C", Value: "3"}}, nil, "A=1 B=1$(C)$(A)$ C=3", ""},
		{"a later value wins in the old place", []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "A", Value: "3"}}, nil, "A=3 B=2", ""},
		{"a key", []v1.EnvVar{{Name: "A", ValueFrom: key("app", "color", nil)}}, nil, "A=red", ""},
		{"a missing key", []v1.EnvVar{{Name: "A", ValueFrom: key("app", "size", nil)}}, nil, "", "couldn't find key size in ConfigMap default/app"},
		{"a missing optional key", []v1.EnvVar{{Name: "A", ValueFrom: key("app", "size", &yes)}}, nil, "", ""},
		{"a missing object", []v1.EnvVar{{Name: "A", ValueFrom: key("none", "size", nil)}}, nil, "", `configmap "none"`},
		{"a missing optional object", []v1.EnvVar{{Name: "A", ValueFrom: key("none", "size", &yes)}}, nil, "", ""},
		{"a secret", []v1.EnvVar{{Name: "A", ValueFrom: from(v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "pass"}, Key: "word"}})}}, nil, "A=xyzzy", ""},
		{"a field", []v1.EnvVar{{Name: "A", ValueFrom: from(v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}})}}, nil, "A=10.42.0.2", ""},
		{"a resource", []v1.EnvVar{{Name: "A", ValueFrom: from(v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.cpu"}})}}, nil, "A=2", ""},
		{"all of a configmap, prefixed", []v1.EnvVar{{Name: "A", Value: "$(P_color)"}}, []v1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "app"}}}}, "P_color=red A=red", ""},
		{"all of a missing one", nil, []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "none"}}}}, "", `secret "none"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			pod := podOf(v1.RestartPolicyAlways, "app")
			c := &pod.Spec.Containers[0]
			c.Env, c.EnvFrom = row.env, row.bulk
			src := downward.Source{Pod: pod, PodIP: "10.42.0.2", Allocatable: v1.ResourceList{"cpu": resource.MustParse("2")}}
			e, err := buildEnvironment(t.Context(), src, objects, c, nil)
			if (row.err == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.err)) {
				t.Fatalf("got error %v, want %q", err, row.err)
			}
			if err != nil {
				return
			}
			if got := strings.TrimPrefix(strings.Join(e.list(), " "), "HOSTNAME=p"); strings.TrimSpace(got) != row.want {
				t.Errorf("got %q, want %q", strings.TrimSpace(got), row.want)
			}
			if want := len(row.bulk) > 0; (len(e.skipped) > 0) != want {
				t.Errorf("got skipped %v, want some: %v", e.skipped, want)
			}
		})
	}
}

func TestServicesAreToldInTheEnvironment(t *testing.T) {
	svc := func(namespace, name, ip string) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1.ServiceSpec{ClusterIP: ip, Ports: []v1.ServicePort{{Name: "http", Port: 80}}}}
	}
	all := []*v1.Service{svc("default", "kubernetes", "10.43.0.1"), svc("shop", "big-cart", "10.43.0.2"), svc("other", "x", "10.43.0.3"), svc("shop", "headless", "None")}
	pod := podOf(v1.RestartPolicyAlways, "app")
	pod.Namespace = "shop"
	got := serviceVariables(pod, all)
	if got["KUBERNETES_SERVICE_HOST"] != "10.43.0.1" || got["BIG_CART_SERVICE_PORT_HTTP"] != "80" || len(got) != 6 {
		t.Errorf("got %v, want kubernetes and big-cart", got)
	}
	no := false
	pod.Spec.EnableServiceLinks = &no
	if got := serviceVariables(pod, all); len(got) != 3 {
		t.Errorf("got %v without service links, want kubernetes alone", got)
	}
}

func FuzzExpandTerminatesAndLeavesPlainTextAlone(f *testing.F) {
	for _, s := range []string{"", "$", "$$", "$(A)", "$(A", "$()", "a$(B)c$$(D)", "$$$(A)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := expand(s, func(string) (string, bool) { return "", false })
		if !strings.Contains(s, "$$") && got != s {
			t.Errorf("got %q for text without anything to replace, want %q", got, s)
		}
	})
}

func TestAddressesAreTakenOnceAndGivenBackAgain(t *testing.T) {
	a, err := newAddresses(netip.MustParsePrefix("10.42.0.0/29"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 5 { // of 8: not .0, .1 and .7
		ip, err := a.take(netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.String())
	}
	if want := []string{"10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := a.take(netip.Addr{}); err == nil {
		t.Error("got an address from an empty range, want an error")
	}
	four := netip.MustParseAddr("10.42.0.4")
	a.give(four)
	if ip, err := a.take(four); ip != four || err != nil {
		t.Errorf("got %v, %v, want the address that was asked for", ip, err)
	}
	if _, err := newAddresses(netip.MustParsePrefix("fd00::/64")); err == nil {
		t.Error("got an IPv6 range, want an error")
	}
}

func TestAWantedAddressOutsideTheRangeIsReplaced(t *testing.T) {
	a, err := newAddresses(netip.MustParsePrefix("10.42.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wanted := range []string{"10.43.0.5", "10.42.0.0", "10.42.0.1", "10.42.0.255", "169.254.169.254"} {
		if ip, err := a.take(netip.MustParseAddr(wanted)); err != nil || ip.String() == wanted {
			t.Errorf("got %v, %v for %s, want another", ip, err, wanted)
		}
	}
}

func TestPullSecretsAreFoundByRegistry(t *testing.T) {
	secret := &v1.Secret{Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(
		`{"auths":{"https://reg.example/v1/":{"auth":"bWU6c2VjcmV0"},"other.example":{"username":"u","password":"p"}}}`)}}
	for _, row := range []struct {
		image string
		want  runtime.Credentials
		ok    bool
	}{
		{"reg.example/app:v1", runtime.Credentials{Username: "me", Password: "secret"}, true},
		{"other.example/app", runtime.Credentials{Username: "u", Password: "p"}, true},
		{"third.example/app", runtime.Credentials{}, false},
		{"app:v1", runtime.Credentials{}, false},
	} {
		if got, ok := credentials(secret, row.image); got != row.want || ok != row.ok {
			t.Errorf("%s: got %v, %v, want %v, %v", row.image, got, ok, row.want, row.ok)
		}
	}
}

func FuzzPullSecretsNeverPanic(f *testing.F) {
	f.Add([]byte(`{"auths":{"a.b":{"auth":"bWU6"}}}`), true)
	f.Add([]byte(`{"a.b":{"auth":"!"}}`), false)
	f.Fuzz(func(t *testing.T, data []byte, wrapped bool) {
		if got, ok := parseCredentials(data, wrapped, "a.b"); !ok && got != (runtime.Credentials{}) {
			t.Errorf("got %v without ok, want none", got)
		}
	})
}

func TestReferencesOfAPodAreEachNamedOnce(t *testing.T) {
	pod := podOf(v1.RestartPolicyAlways, "init", "app")
	name := v1.LocalObjectReference{Name: "a"}
	pod.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "pull"}}
	pod.Spec.Volumes = []v1.Volume{
		{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: name}}},
		{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "a"}}},
		{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "ca"}}}}}}},
	}
	pod.Spec.InitContainers[0].EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: name}}}
	pod.Spec.Containers[0].Env = []v1.EnvVar{{ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "key"}}}}}
	var got []string
	for _, r := range References(pod) {
		got = append(got, string(r.Kind)+"/"+r.Name)
	}
	if want := []string{"configmap/a", "secret/a", "configmap/ca", "secret/key", "secret/pull"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestANodeAdmitsWhatFits(t *testing.T) {
	l := newLedger()
	allocatable := v1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi"), "pods": resource.MustParse("2")}
	pod := podOf(v1.RestartPolicyAlways, "app")
	pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{"cpu": resource.MustParse("1500m")}
	w := &worker{}
	if f := l.admit(pod, allocatable); f != nil {
		t.Fatalf("got %+v for the first pod, want it admitted", f)
	}
	l.enter(w, pod)
	f := l.admit(pod, allocatable)
	want := "Pod was rejected: Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000"
	if f == nil || f.reason != "OutOfcpu" || f.message != want {
		t.Errorf("got %+v, want OutOfcpu %q", f, want)
	}
	small := podOf(v1.RestartPolicyAlways, "app")
	l.enter(&worker{}, small)
	if f := l.admit(small, allocatable); f == nil || f.reason != "OutOfpods" {
		t.Errorf("got %+v for a third pod, want OutOfpods", f)
	}
	l.leave(w)
	l.leave(w)
	if f := l.admit(pod, allocatable); f != nil {
		t.Errorf("got %+v after a pod left, want it admitted", f)
	}
}
