package nodes_test

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"copepod/plane/auth/nodes"
)

// write is a write by node n1 in short.
type write struct {
	op              admission.Operation
	resource, sub   string
	namespace, name string
	obj, old        runtime.Object
}

func (w write) by(u user.Info) admission.Attributes {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: w.resource}
	if w.resource == "leases" {
		gvr.Group = "coordination.k8s.io"
	}
	return admission.NewAttributesRecord(w.obj, w.old, schema.GroupVersionKind{}, w.namespace, w.name, gvr, w.sub, w.op, nil, false, u)
}

func changed[T runtime.Object](obj T, change func(T)) T {
	out := obj.DeepCopyObject().(T)
	change(out)
	return out
}

func mirrorPod() *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: "static-n1",
			Annotations:     map[string]string{corev1.MirrorPodAnnotationKey: "x"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "uid-of-n1", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

func tokenRequest(change func(*authenticationv1.TokenRequestSpec)) *authenticationv1.TokenRequest {
	tr := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "pod-1"},
	}}
	change(&tr.Spec)
	return tr
}

func TestNodeWritesItsOwnOnly(t *testing.T) {
	mine, theirs := webPod("n1"), webPod("n2")
	theirs.Name = "theirs"
	r := nodes.NewRestriction(world{pods: []*corev1.Pod{mine, theirs}})
	nodeObj := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "n1"}}}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	create, update, remove := admission.Create, admission.Update, admission.Delete
	podCreate := func(change func(*corev1.Pod)) write {
		return write{op: create, resource: "pods", namespace: "kube-system", obj: changed(mirrorPod(), change)}
	}
	nodeUpdate := func(change func(*corev1.Node)) write {
		return write{op: update, resource: "nodes", name: "n1", obj: changed(nodeObj, change), old: nodeObj}
	}
	token := func(change func(*authenticationv1.TokenRequestSpec)) write {
		return write{op: create, resource: "serviceaccounts", sub: "token", namespace: "team", name: "web", obj: tokenRequest(change)}
	}
	for _, tt := range []struct {
		name string
		w    write
		want string // "" = allowed
	}{
		{"status of its pod", write{op: update, resource: "pods", sub: "status", namespace: "team", name: "web", obj: mine, old: mine}, ""},
		{"status of another's pod", write{op: update, resource: "pods", sub: "status", namespace: "team", name: "theirs", obj: theirs, old: theirs},
			`node "n1" can only update pod status for pods with spec.nodeName set to itself`},
		{"labels through status", write{op: update, resource: "pods", sub: "status", namespace: "team", name: "web",
			obj: changed(mine, func(p *corev1.Pod) { p.Labels["app"] = "admin" }), old: mine}, `node "n1" cannot update labels through pod status`},
		{"delete of its pod", write{op: remove, resource: "pods", namespace: "team", name: "web"}, ""},
		{"delete of another's pod", write{op: remove, resource: "pods", namespace: "team", name: "theirs"},
			`node "n1" can only delete pods with spec.nodeName set to itself`},
		{"eviction of its pod", write{op: create, resource: "pods", sub: "eviction", namespace: "team", name: "web", obj: &policyv1.Eviction{}}, ""},
		{"eviction of another's pod", write{op: create, resource: "pods", sub: "eviction", namespace: "team", name: "theirs", obj: &policyv1.Eviction{}},
			"node n1 can only evict pods with spec.nodeName set to itself"},
		{"update of its pod", write{op: update, resource: "pods", namespace: "team", name: "web", obj: mine, old: mine}, "unexpected operation"},
		{"exec in its pod", write{op: create, resource: "pods", sub: "exec", namespace: "team", name: "web"}, `unexpected pod subresource "exec"`},

		{"mirror pod", podCreate(func(*corev1.Pod) {}), ""},
		{"pod of its own", podCreate(func(p *corev1.Pod) { p.Annotations = nil }), "can only create mirror pods"},
		{"mirror pod elsewhere", podCreate(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), "spec.nodeName set to itself"},
		{"mirror pod with an account", podCreate(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "admin" }), "reference a service account"},
		{"mirror pod with a secret", podCreate(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{local("s")} }), "reference secrets"},
		{"mirror pod with a claim", podCreate(func(p *corev1.Pod) { p.Spec.Volumes = webPod("n1").Spec.Volumes[2:3] }), "reference persistentvolumeclaims"},
		{"mirror pod without owner", podCreate(func(p *corev1.Pod) { p.OwnerReferences = nil }), "owner reference set to itself"},
		{"mirror pod of an older node", podCreate(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "old" }), "UID mismatch"},

		{"registering", write{op: create, resource: "nodes", obj: nodeObj}, ""},
		{"registering as another", write{op: create, resource: "nodes", obj: changed(nodeObj, func(n *corev1.Node) { n.Name = "n2" })},
			`node "n1" is not allowed to modify node "n2"`},
		{"registering with a restricted label", write{op: create, resource: "nodes", obj: changed(nodeObj, func(n *corev1.Node) {
			n.Labels["node-restriction.kubernetes.io/pci"] = "true"
		})}, `node "n1" is not allowed to set the following labels: node-restriction.kubernetes.io/pci`},
		{"status of another node", write{op: update, resource: "nodes", sub: "status", name: "n2", obj: nodeObj, old: nodeObj}, `modify node "n2"`},
		{"its labels", nodeUpdate(func(n *corev1.Node) {
			n.Labels["example.com/rack"], n.Labels["node.kubernetes.io/x"], n.Labels[corev1.LabelTopologyZone] = "1", "1", "a"
		}), ""},
		{"role of a plane", nodeUpdate(func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }),
			"is not allowed to modify labels: node-role.kubernetes.io/control-plane"},
		{"what an operator decided", nodeUpdate(func(n *corev1.Node) { n.Labels["copepod.dev/plane-eligible"] = "true" }),
			"is not allowed to modify labels: copepod.dev/plane-eligible"},
		{"its part in Raft", nodeUpdate(func(n *corev1.Node) { n.Annotations = map[string]string{"copepod.dev/raft": "voter"} }),
			`node "n1" is not allowed to modify annotation copepod.dev/raft`},
		{"registering as a voter", write{op: create, resource: "nodes", obj: changed(nodeObj, func(n *corev1.Node) {
			n.Annotations = map[string]string{"copepod.dev/raft": "voter"}
		})}, `node "n1" is not allowed to set annotation copepod.dev/raft`},
		{"taints", nodeUpdate(func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: "NoSchedule"}} }), `node "n1" is not allowed to modify taints`},
		{"range of pod addresses", nodeUpdate(func(n *corev1.Node) { n.Spec.PodCIDR = "10.64.0.0/18" }), `node "n1" is not allowed to modify podCIDR`},
		{"owners", nodeUpdate(func(n *corev1.Node) { n.OwnerReferences = []metav1.OwnerReference{{Name: "x"}} }), "not allowed to modify ownerReferences"},

		{"its lease", write{op: create, resource: "leases", namespace: "kube-node-lease", obj: lease}, ""},
		{"renewing its lease", write{op: update, resource: "leases", namespace: "kube-node-lease", name: "n1", obj: lease, old: lease}, ""},
		{"lease of another", write{op: update, resource: "leases", namespace: "kube-node-lease", name: "n2", obj: lease, old: lease}, "same name as the requesting node"},
		{"lease of the scheduler", write{op: update, resource: "leases", namespace: "kube-system", name: "n1", obj: lease, old: lease}, `"kube-node-lease" system namespace`},

		{"token of its pod", token(func(*authenticationv1.TokenRequestSpec) {}), ""},
		{"token for an audience of its pod", token(func(s *authenticationv1.TokenRequestSpec) { s.Audiences = []string{"vault"} }), ""},
		{"token for another audience", token(func(s *authenticationv1.TokenRequestSpec) { s.Audiences = []string{"bank"} }), `audience "bank" not found in pod spec volume`},
		{"token for two audiences", token(func(s *authenticationv1.TokenRequestSpec) { s.Audiences = []string{"vault", "bank"} }), "0 or 1 audiences"},
		{"token bound to nothing", token(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef = nil }), "not bound to a pod"},
		{"token without a uid", token(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef.UID = "" }), "without a uid"},
		{"token of a pod that was replaced", token(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef.UID = "old" }), "does not match the UID in record"},
		{"token of another's pod", token(func(s *authenticationv1.TokenRequestSpec) { s.BoundObjectRef.Name = "theirs" }), "scheduled on a different node"},
		{"claim", write{op: update, resource: "persistentvolumeclaims", namespace: "team", name: "claim"}, "may not write persistentvolumeclaims"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := r.Validate(t.Context(), tt.w.by(node("n1")), nil)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want it allowed", err)
			case tt.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want Forbidden with %q", err, tt.want)
			}
		})
	}
}

func TestRestrictionLeavesOthersAlone(t *testing.T) {
	r := nodes.NewRestriction(world{})
	w := write{op: admission.Delete, resource: "pods", namespace: "team", name: "web"}
	if err := r.Validate(t.Context(), w.by(&user.DefaultInfo{Name: "jane"}), nil); err != nil {
		t.Errorf("jane: got %v, want nil", err)
	}
	if err := r.Validate(t.Context(), w.by(node("n1")), nil); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that is gone: got %v, want NotFound", err)
	}
	if err := r.Validate(t.Context(), w.by(node("")), nil); !apierrors.IsForbidden(err) {
		t.Errorf("a node without a name: got %v, want Forbidden", err)
	}
	if r.Handles(admission.Connect) {
		t.Error("handles connects, which the authorizer judges")
	}
}
