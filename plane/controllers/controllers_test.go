package controllers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"copepod/plane/controllers"
	"copepod/plane/controllers/api"
	"copepod/plane/controllers/looptest"
)

// start runs every controller over a.
func start(t testing.TB, a *looptest.API) (stop func()) {
	t.Helper()
	c, err := controllers.New(controllers.Config{Client: a, RootCA: []byte("pem")})
	if err != nil {
		t.Fatal(err)
	}
	return looptest.Start(t, c.Run)
}

func deployment(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "hello"}}},
			},
		},
	}
}

// settle lets everything happen that happens by itself, timers included.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func count[T api.Object](a *looptest.API, namespace string) int {
	return len(looptest.List[T](a, namespace))
}

func remove(t testing.TB, a *looptest.API, gr schema.GroupResource, namespace, name string, policy metav1.DeletionPropagation) {
	t.Helper()
	if err := a.Delete(t.Context(), gr, namespace, name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
}

func TestDeletedDeploymentTakesItsTreeAlong(t *testing.T) {
	for _, row := range []struct {
		policy          metav1.DeletionPropagation
		sets, pods      int // that stay
		whilePodsLinger int // deployments that are left while pods terminate
	}{
		{policy: metav1.DeletePropagationBackground},
		{policy: metav1.DeletePropagationForeground, whilePodsLinger: 1},
		{policy: metav1.DeletePropagationOrphan, sets: 1, pods: 20},
	} {
		t.Run(string(row.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := looptest.New()
				start(t, a)
				stop := looptest.Start(t, (&looptest.Agent{API: a, Node: "n", Lingers: true}).Run)
				node(t, a, "n")
				looptest.Start(t, beat(a, "n"))
				a.Create(t.Context(), deployment(20))
				settle(time.Second)
				if got := count[*corev1.Pod](a, "default"); got != 20 {
					t.Fatalf("got %d pods, want 20", got)
				}
				remove(t, a, api.Deployments, "default", "web", row.policy)
				settle(time.Second)
				if got := count[*appsv1.Deployment](a, "default"); got != row.whilePodsLinger {
					t.Errorf("got %d deployments while pods terminate, want %d", got, row.whilePodsLinger)
				}
				stop()
				looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
				settle(time.Minute)
				d, rs, p := count[*appsv1.Deployment](a, "default"), count[*appsv1.ReplicaSet](a, "default"), count[*corev1.Pod](a, "default")
				if d != 0 || rs != row.sets || p != row.pods {
					t.Errorf("got %d deployments, %d replica sets, %d pods, want 0, %d, %d", d, rs, p, row.sets, row.pods)
				}
				for _, rs := range looptest.List[*appsv1.ReplicaSet](a, "default") {
					if metav1.GetControllerOf(rs) != nil {
						t.Errorf("got an orphaned replica set that has an owner")
					}
				}
			})
		})
	}
}

func TestDependentWithAnotherOwnerStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		made := looptest.Must[*corev1.ConfigMap](t)
		x := made(a.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}}))
		y := made(a.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "y"}}))
		ref := func(o *corev1.ConfigMap) metav1.OwnerReference {
			return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: o.Name, UID: o.UID}
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", OwnerReferences: []metav1.OwnerReference{ref(x), ref(y)}}}
		a.Create(t.Context(), secret)
		remove(t, a, api.ConfigMaps, "default", "x", metav1.DeletePropagationBackground)
		settle(time.Second)
		if refs := looptest.Get[*corev1.Secret](t, a, "default", "s").OwnerReferences; len(refs) != 1 || refs[0].Name != "y" {
			t.Errorf("got owners %v, want y alone", refs)
		}
		remove(t, a, api.ConfigMaps, "default", "y", metav1.DeletePropagationBackground)
		settle(time.Second)
		if count[*corev1.Secret](a, "default") != 0 {
			t.Errorf("got the secret kept after its last owner went")
		}
	})
}

func TestDependentOfSomethingLongGoneIsCollectedAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		refs := []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "gone", UID: "gone"}}
		a.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "dangling", OwnerReferences: refs}})
		refs = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "Widget", Name: "gone", UID: "gone"}}
		a.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "unknown", OwnerReferences: refs}})
		start(t, a)
		settle(time.Second)
		pods := looptest.List[*corev1.Pod](a, "default")
		if len(pods) != 1 || pods[0].Name != "unknown" {
			t.Errorf("got %d pods, want only the one whose owner's kind nobody knows", len(pods))
		}
	})
}

func TestNamespaceHasItsAccountAndTheClustersCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		a.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		settle(time.Second)
		looptest.Get[*corev1.ServiceAccount](t, a, "team", "default")
		a.Modify(t.Context(), api.ConfigMaps, "team", "kube-root-ca.crt", "", func(o api.Object) error {
			o.(*corev1.ConfigMap).Data["ca.crt"] = "forged"
			return nil
		})
		a.Delete(t.Context(), api.ServiceAccounts, "team", "default", metav1.DeleteOptions{})
		settle(time.Second)
		if got := looptest.Get[*corev1.ConfigMap](t, a, "team", "kube-root-ca.crt").Data["ca.crt"]; got != "pem" {
			t.Errorf("got %q, want the certificate restored", got)
		}
		looptest.Get[*corev1.ServiceAccount](t, a, "team", "default")
	})
}

func TestNamespaceGoesWithAllItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		node(t, a, "n")
		looptest.Start(t, beat(a, "n"))
		a.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		d := deployment(10)
		d.Namespace = "team"
		a.Create(t.Context(), d)
		a.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "held", Finalizers: []string{"example.com/hold"}}})
		settle(time.Second)
		a.Delete(t.Context(), api.Namespaces, "", "team", metav1.DeleteOptions{})
		settle(time.Minute)
		ns := looptest.Get[*corev1.Namespace](t, a, "", "team")
		var said []string
		for _, c := range ns.Status.Conditions {
			said = append(said, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
		want := []string{
			"NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered",
			"NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed",
			"NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization",
			"NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: secrets has 1 resource instances",
			"NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
		}
		if !slices.Equal(said, want) {
			t.Errorf("got conditions\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
		}
		a.Modify(t.Context(), api.Secrets, "team", "held", "", func(o api.Object) error { o.SetFinalizers(nil); return nil })
		settle(time.Minute)
		if n := count[*corev1.Namespace](a, ""); n != 0 {
			t.Errorf("got the namespace still there")
		}
	})
}

func TestServiceOfADeletedNamespaceLeavesNoSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		a.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}}},
		})
		settle(time.Second)
		if n := count[*discoveryv1.EndpointSlice](a, "default"); n != 1 {
			t.Fatalf("got %d slices, want 1", n)
		}
		remove(t, a, api.Services, "default", "web", metav1.DeletePropagationBackground)
		settle(time.Second)
		if n := count[*discoveryv1.EndpointSlice](a, "default"); n != 0 {
			t.Errorf("got %d slices of a Service that is gone, want none", n)
		}
	})
}

func TestAggregatedRoleFollowsTheRolesItSelects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a)
		rule := func(verb string) []rbacv1.PolicyRule {
			return []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{"pods"}}}
		}
		labels := map[string]string{"aggregate": "true"}
		a.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "all"}, AggregationRule: &rbacv1.AggregationRule{
			ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: labels}},
		}})
		a.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: labels}, Rules: rule("get")})
		a.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: labels}, Rules: rule("list")})
		a.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Rules: rule("delete")})
		settle(time.Second)
		if got := looptest.Get[*rbacv1.ClusterRole](t, a, "", "all").Rules; len(got) != 2 || got[0].Verbs[0] != "list" || got[1].Verbs[0] != "get" {
			t.Errorf("got %v, want list and get", got)
		}
		a.Delete(t.Context(), api.ClusterRoles, "", "a", metav1.DeleteOptions{})
		settle(time.Second)
		if got := looptest.Get[*rbacv1.ClusterRole](t, a, "", "all").Rules; len(got) != 1 {
			t.Errorf("got %v, want get alone", got)
		}
	})
}

func TestControllersStartAgainWithEachLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		c, err := controllers.New(controllers.Config{Client: a, Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		looptest.Start(t, (&looptest.Agent{API: a, Node: "n"}).Run)
		node(t, a, "n")
		looptest.Start(t, beat(a, "n"))
		a.Create(t.Context(), deployment(100))
		for i := range 20 {
			stop := looptest.Start(t, c.Run)
			time.Sleep(time.Duration(i) * time.Microsecond)
			stop()
		}
		looptest.Start(t, c.Run)
		settle(time.Minute)
		if got := count[*corev1.Pod](a, "default"); got != 100 {
			t.Errorf("got %d pods, want 100", got)
		}
	})
}

func TestUnknownControllerInWithoutIsRefused(t *testing.T) {
	_, err := controllers.New(controllers.Config{Client: looptest.New(), Without: []string{"deploymnt"}})
	if err == nil || !strings.Contains(err.Error(), `no controller "deploymnt"`) {
		t.Errorf("got %v, want an error that names it", err)
	}
}

func Example() {
	cluster := looptest.New()
	c, err := controllers.New(controllers.Config{Client: cluster})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	cluster.Create(ctx, deployment(3))
	for len(looptest.List[*corev1.Pod](cluster, "default")) < 3 {
		time.Sleep(time.Millisecond)
	}
	stop()
	fmt.Println("3 pods,", <-done)
	// Output: 3 pods, <nil>
}
