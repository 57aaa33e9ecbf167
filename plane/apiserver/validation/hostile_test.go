package validation_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"copepod/plane/apiserver/validation"
)

func TestAnAnswerIsShortHoweverLongTheQuestion(t *testing.T) {
	p := valid[*corev1.Pod](t, podKind)
	for range 50_000 {
		first(p).Ports = append(first(p).Ports, corev1.ContainerPort{ContainerPort: 1, HostPort: 1, Protocol: "TCP"})
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "!"})
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{})
		first(p).Resources.Claims = append(first(p).Resources.Claims, corev1.ResourceClaim{Name: "x"})
	}
	first(p).Image = " " + strings.Repeat("x", 1<<20)
	rules := rulesOf(t, podKind)
	errs := rules.Create(p)
	if got, want := len(errs), 101; got != want {
		t.Errorf("got %d errors, want %d", got, want)
	}
	if got, want := errs[100].Detail, "too many errors, the others are left out"; got != want {
		t.Errorf("the last error: got %q, want %q", got, want)
	}
	if got, most := len(textOf(errs)), 64<<10; got > most {
		t.Errorf("got %d bytes of errors, want at most %d", got, most)
	}
	if got, most := len(rules.Warnings(p, nil)), 25; got > most {
		t.Errorf("got %d warnings, want at most %d", got, most)
	}
}

func TestALongStringIsNotRepeatedWhole(t *testing.T) {
	p := valid[*corev1.Pod](t, podKind)
	first(p).Image = " " + strings.Repeat("x", 1<<20)
	if got := textOf(rulesOf(t, podKind).Create(p)); len(got) > 2000 {
		t.Errorf("got an error of %d bytes, want a short one", len(got))
	}
}

func TestObjectsOfAnotherKindAreAnInternalError(t *testing.T) {
	got := textOf(rulesOf(t, podKind).Update(&corev1.Service{}, &corev1.Pod{}))
	if !strings.Contains(got, "Internal error") {
		t.Errorf("got %q, want an internal error", got)
	}
}

func TestWarningsAreGivenAboutWhatIsValidAndSuspicious(t *testing.T) {
	p := valid[*corev1.Pod](t, podKind)
	p.Name = "a.b"
	p.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "wasi"}
	first(p).Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "A", Value: "3"}, {Name: "B", Value: "$(B)3"}}
	first(p).Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}, {ContainerPort: 80, Protocol: "TCP"}}
	want := []string{
		"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
		`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`,
		`spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply`,
		"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
	}
	rules := rulesOf(t, podKind)
	if got := rules.Warnings(p, nil); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := rules.Warnings(p, p); len(got) > 0 {
		t.Errorf("nothing changed: got %q, want none", got)
	}

	s := valid[*corev1.Service](t, serviceKind)
	s.Spec.ExternalName = "x"
	if got, want := rulesOf(t, serviceKind).Warnings(s, nil), []string{`spec.externalName is ignored when spec.type is not "ExternalName"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoRandomObjectPanics(t *testing.T) {
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(2), serializer.NewCodecFactory(runtime.NewScheme()))
	for _, m := range minimal {
		rules := rulesOf(t, m.kind)
		for range 50 {
			obj, old := m.zero.DeepCopyObject(), m.zero.DeepCopyObject()
			fill.Fill(obj)
			fill.Fill(old)
			judge(rules, obj, old)
			scheme.Default(obj)
			judge(rules, obj, valid[runtime.Object](t, m.kind))
		}
		judge(rules, m.zero, m.zero)
	}
}

// FuzzRules feeds objects as they come off the wire: nothing of ours may panic,
// defaulted or not.
func FuzzRules(f *testing.F) {
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), serializer.NewCodecFactory(runtime.NewScheme()))
	for i, m := range minimal {
		for range 3 {
			obj := m.zero.DeepCopyObject()
			fill.Fill(obj)
			f.Add(uint8(i), marshal(f, obj), marshal(f, valid[runtime.Object](f, m.kind)))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data, oldData []byte) {
		m := minimal[int(which)%len(minimal)]
		obj, old := m.zero.DeepCopyObject(), m.zero.DeepCopyObject()
		for o, bytes := range map[runtime.Object][]byte{obj: data, old: oldData} {
			if err := o.(interface{ Unmarshal([]byte) error }).Unmarshal(bytes); err != nil {
				t.Skip("not an object")
			}
		}
		rules, _ := validation.For(m.kind)
		judge(rules, obj, old)
		scheme.Default(obj)
		scheme.Default(old)
		judge(rules, obj, old)
	})
}

func judge(rules validation.Rules, obj, old runtime.Object) {
	errs := rules.Create(obj)
	errs = append(errs, rules.Update(obj, old)...)
	errs = append(errs, rules.UpdateStatus(obj, old)...)
	_ = textOf(errs)
	hasAddresses := false // warnings about them take valid ones
	switch obj.(type) {
	case *corev1.Node, *corev1.Service, *discoveryv1.EndpointSlice:
		hasAddresses = true
	}
	if len(errs) == 0 || !hasAddresses {
		_ = fmt.Sprint(rules.Warnings(obj, nil), rules.Warnings(obj, old))
	}
	if p, ok := obj.(*corev1.Pod); ok {
		_ = textOf(validation.PodEphemeralContainers(p, old.(*corev1.Pod)))
	}
}

func marshal(f *testing.F, obj runtime.Object) []byte {
	data, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	return data
}
