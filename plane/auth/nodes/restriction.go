package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
)

// Objects finds what a node's write refers to. A missing one is an error for
// which apierrors.IsNotFound holds.
type Objects interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// A Restriction is the validating admission that keeps nodes from writing what is
// not theirs. Requests of others pass.
type Restriction struct{ objects Objects }

var _ admission.ValidationInterface = (*Restriction)(nil)

// NewRestriction returns a Restriction over objects.
func NewRestriction(objects Objects) *Restriction { return &Restriction{objects: objects} }

// Handles implements admission.Interface.
func (*Restriction) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update || op == admission.Delete
}

// Validate implements admission.ValidationInterface. Refusals are Forbidden
// statuses; a pod that is not there is NotFound.
func (r *Restriction) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	node, ok := Identify(a.GetUserInfo())
	if !ok {
		return nil
	}
	err := r.check(ctx, node, a)
	if err == nil || apierrors.IsNotFound(err) {
		return err
	}
	return admission.NewForbidden(a, err)
}

func (r *Restriction) check(ctx context.Context, node string, a admission.Attributes) error {
	if node == "" {
		return fmt.Errorf("could not determine node from user %q", a.GetUserInfo().GetName())
	}
	switch a.GetResource().GroupResource() {
	case schema.GroupResource{Resource: pods}:
		return r.checkPod(ctx, node, a)
	case schema.GroupResource{Resource: "nodes"}:
		return checkNode(node, a)
	case schema.GroupResource{Resource: serviceAccounts}:
		return r.checkToken(ctx, node, a)
	case schema.GroupResource{Resource: claims}:
		return fmt.Errorf("node %q may not write persistentvolumeclaims", node)
	case schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}:
		return checkLease(node, a)
	}
	return nil
}

func (r *Restriction) checkPod(ctx context.Context, node string, a admission.Attributes) error {
	switch a.GetSubresource() {
	case "":
		switch a.GetOperation() {
		case admission.Create:
			return r.checkPodCreate(ctx, node, a)
		case admission.Delete:
			return r.checkPodOnNode(ctx, a.GetNamespace(), a.GetName(),
				node, fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", node))
		}
		return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.GetOperation(), node)
	case "status":
		return checkPodStatus(node, a)
	case "eviction":
		eviction, ok := a.GetObject().(*policyv1.Eviction)
		if a.GetOperation() != admission.Create || !ok {
			return fmt.Errorf("unexpected operation %s of %T", a.GetOperation(), a.GetObject())
		}
		name := a.GetName()
		if name == "" {
			name = eviction.Name
		}
		if name == "" {
			return errors.New("could not determine pod from request data")
		}
		return r.checkPodOnNode(ctx, a.GetNamespace(), name,
			node, fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", node))
	}
	return fmt.Errorf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.GetSubresource())
}

func (r *Restriction) checkPodOnNode(ctx context.Context, namespace, name, node string, refusal error) error {
	pod, err := r.objects.Pod(ctx, namespace, name)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != node {
		return refusal
	}
	return nil
}

// checkPodCreate allows mirror pods only, and only such as open nothing: what a
// node writes itself must not widen what it reaches.
func (r *Restriction) checkPodCreate(ctx context.Context, node string, a admission.Attributes) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.GetObject())
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if pod.Spec.NodeName != node {
		return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", node)
	}
	if err := r.checkOwner(ctx, node, pod); err != nil {
		return err
	}
	bare := pod.DeepCopy()
	delete(bare.Annotations, corev1.MirrorPodAnnotationKey)
	refs := references(bare)
	switch {
	case len(refs) == 0:
		return nil
	case refs[0].resource == serviceAccounts:
		return fmt.Errorf("node %q can not create pods that reference a service account", node)
	}
	return fmt.Errorf("node %q can not create pods that reference %s", node, refs[0].resource)
}

func (r *Restriction) checkOwner(ctx context.Context, node string, pod *corev1.Pod) error {
	if len(pod.OwnerReferences) > 1 {
		return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", node)
	}
	if len(pod.OwnerReferences) == 0 {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	if owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node {
		return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
	}
	if owner.Controller == nil || !*owner.Controller {
		return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", node)
	}
	if owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion {
		return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	self, err := r.objects.Node(ctx, node)
	if err != nil {
		return err
	}
	if owner.UID != self.UID {
		return fmt.Errorf("node %s UID mismatch: expected %s got %s", node, owner.UID, self.UID)
	}
	return nil
}

func checkPodStatus(node string, a admission.Attributes) error {
	old, okOld := a.GetOldObject().(*corev1.Pod)
	pod, ok := a.GetObject().(*corev1.Pod)
	if a.GetOperation() != admission.Update || !ok || !okOld {
		return fmt.Errorf("unexpected operation %q", a.GetOperation())
	}
	if old.Spec.NodeName != node {
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	}
	if !labels.Equals(old.Labels, pod.Labels) {
		return fmt.Errorf("node %q cannot update labels through pod status", node)
	}
	return nil
}

func checkNode(node string, a admission.Attributes) error {
	name := a.GetName()
	obj, ok := a.GetObject().(*corev1.Node)
	if ok && name == "" { // a create need not name it in the path
		name = obj.Name
	}
	if name != node {
		return fmt.Errorf("node %q is not allowed to modify node %q", node, name)
	}
	if a.GetOperation() == admission.Delete {
		return nil
	}
	if !ok {
		return fmt.Errorf("unexpected type %T", a.GetObject())
	}
	if a.GetOperation() == admission.Create {
		if forbidden := forbiddenLabels(obj.Labels, nil); len(forbidden) > 0 {
			return fmt.Errorf("node %q is not allowed to set the following labels: %s", node, strings.Join(forbidden, ", "))
		}
		if obj.Annotations[raftAnnotation] != "" {
			return fmt.Errorf("node %q is not allowed to set annotation %s", node, raftAnnotation)
		}
		if len(obj.OwnerReferences) > 0 {
			return fmt.Errorf("node %q is not allowed to set ownerReferences", node)
		}
		if obj.Spec.PodCIDR != "" || len(obj.Spec.PodCIDRs) > 0 {
			return fmt.Errorf("node %q is not allowed to set podCIDR", node)
		}
		return nil
	}
	old, ok := a.GetOldObject().(*corev1.Node)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.GetOldObject())
	}
	return checkNodeChange(node, obj, old)
}

// checkNodeChange keeps a node from steering workloads to itself, from having the
// garbage collector delete it, and from taking addresses of other nodes' pods:
// others believe it by its podCIDR.
func checkNodeChange(node string, obj, old *corev1.Node) error {
	if !equality.Semantic.DeepEqual(obj.Spec.Taints, old.Spec.Taints) {
		return fmt.Errorf("node %q is not allowed to modify taints", node)
	}
	if !equality.Semantic.DeepEqual(obj.OwnerReferences, old.OwnerReferences) {
		return fmt.Errorf("node %q is not allowed to modify ownerReferences", node)
	}
	if obj.Spec.PodCIDR != old.Spec.PodCIDR || !slices.Equal(obj.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		return fmt.Errorf("node %q is not allowed to modify podCIDR", node)
	}
	if obj.Annotations[raftAnnotation] != old.Annotations[raftAnnotation] {
		return fmt.Errorf("node %q is not allowed to modify annotation %s", node, raftAnnotation)
	}
	if forbidden := forbiddenLabels(obj.Labels, old.Labels); len(forbidden) > 0 {
		return fmt.Errorf("is not allowed to modify labels: %s", strings.Join(forbidden, ", "))
	}
	return nil
}

// What the leader shows on a Node, and what an operator decides by a label: a
// node that set them itself would deceive people, and undo their decision.
const (
	raftAnnotation = "copepod.dev/raft"
	eligibleLabel  = "copepod.dev/plane-eligible"
)

// forbiddenLabels lists the labels that differ and that nodes may not touch:
// those of node-restriction.kubernetes.io, and those of kubernetes.io and k8s.io
// but for the ones that describe the machine.
func forbiddenLabels(a, b map[string]string) []string {
	var out []string
	consider := func(key string, same bool) {
		if !same && !nodeMaySet(key) && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	for k, v := range a {
		other, ok := b[k]
		consider(k, ok && other == v)
	}
	for k := range b {
		_, ok := a[k]
		consider(k, ok)
	}
	slices.Sort(out)
	return out
}

func nodeMaySet(label string) bool {
	domain, _, qualified := strings.Cut(label, "/")
	under := func(parents ...string) bool {
		return slices.ContainsFunc(parents, func(p string) bool { return domain == p || strings.HasSuffix(domain, "."+p) })
	}
	switch {
	case label == eligibleLabel:
		return false
	case !qualified || !under("kubernetes.io", "k8s.io"):
		return true
	case under(corev1.LabelNamespaceNodeRestriction):
		return false
	case under(corev1.LabelNamespaceSuffixKubelet, corev1.LabelNamespaceSuffixNode):
		return true
	}
	switch label {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelInstanceTypeStable,
		corev1.LabelOSStable, corev1.LabelArchStable, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, "beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return true
	}
	return false
}

// checkToken allows tokens of pods on the node only, and only for an audience
// that the pod asks for.
func (r *Restriction) checkToken(ctx context.Context, node string, a admission.Attributes) error {
	if a.GetOperation() != admission.Create || a.GetSubresource() != "token" {
		return fmt.Errorf("node %q may only create tokens of service accounts", node)
	}
	tr, ok := a.GetObject().(*authenticationv1.TokenRequest)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.GetObject())
	}
	ref := tr.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	pod, err := r.objects.Pod(ctx, a.GetNamespace(), ref.Name)
	if err != nil {
		return err
	}
	if ref.UID != pod.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return checkAudience(pod, tr.Spec.Audiences)
}

func checkAudience(pod *corev1.Pod, audiences []string) error {
	if len(audiences) > 1 {
		return errors.New("node may only request 0 or 1 audiences")
	}
	wanted := strings.Join(audiences, "")
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == wanted {
				return nil
			}
		}
	}
	return fmt.Errorf("audience %q not found in pod spec volume, so it is not allowed to be requested by the node", wanted)
}

func checkLease(node string, a admission.Attributes) error {
	if a.GetNamespace() != corev1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	name := a.GetName()
	if a.GetOperation() == admission.Create {
		lease, ok := a.GetObject().(*coordinationv1.Lease)
		if !ok {
			return fmt.Errorf("unexpected type %T", a.GetObject())
		}
		name = lease.Name
	}
	if name != node {
		return errors.New("can only access node lease with the same name as the requesting node")
	}
	return nil
}
