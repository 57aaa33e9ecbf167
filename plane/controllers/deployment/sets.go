package deployment

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
)

// Annotations of Kubernetes' deployment controller, which kubectl reads.
const (
	annotationRevision = "deployment.kubernetes.io/revision"
	annotationHistory  = "deployment.kubernetes.io/revision-history"
	annotationDesired  = "deployment.kubernetes.io/desired-replicas"
	annotationMax      = "deployment.kubernetes.io/max-replicas"
	annotationRollback = "deprecated.deployment.rollback.to"
)

// historyLimit bounds the revision-history annotation, in bytes.
const historyLimit = 2000

// templateHash is Kubernetes' pod-template-hash: FNV-1a over the dump of the
// template and the collision count, in letters that spell nothing.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprint(h, dump.ForHash(*t))
	if collisions != nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// sameTemplate compares templates but for the hash label.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	if !maps.Equal(withoutHash(a.Labels), withoutHash(b.Labels)) {
		return false
	}
	x, y := *a, *b
	x.Labels, y.Labels = nil, nil
	return equality.Semantic.DeepEqual(&x, &y)
}

func withoutHash(m map[string]string) map[string]string {
	m = maps.Clone(m)
	delete(m, appsv1.DefaultDeploymentUniqueLabelKey)
	return m
}

// newest is the ReplicaSet of the Deployment's present template: the oldest of
// them, if several have it.
func newest(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range byAge(sets) {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

func byAge(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	sets = slices.Clone(sets)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return sets
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return *rs.Spec.Replicas == 0 })
}

// sum adds a figure over ReplicaSets.
func sum(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) (n int32) {
	for _, rs := range sets {
		n += of(rs)
	}
	return n
}

func wanted(rs *appsv1.ReplicaSet) int32      { return *rs.Spec.Replicas }
func present(rs *appsv1.ReplicaSet) int32     { return rs.Status.Replicas }
func ready(rs *appsv1.ReplicaSet) int32       { return rs.Status.ReadyReplicas }
func availableOf(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas }

func revision(o metav1.Object) int64 {
	n, err := strconv.ParseInt(o.GetAnnotations()[annotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func number(rs *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 32)
	return int32(n), err == nil
}

// made is the ReplicaSet for the Deployment's present template.
func made(d *appsv1.Deployment, rev int64) *appsv1.ReplicaSet {
	template := d.Spec.Template.DeepCopy()
	hash := templateHash(template, d.Status.CollisionCount)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	sel := d.Spec.Selector.DeepCopy()
	if sel.MatchLabels == nil {
		sel.MatchLabels = map[string]string{}
	}
	sel.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	none := int32(0)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: setName(d.Name, hash), Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, Kind)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &none, MinReadySeconds: d.Spec.MinReadySeconds, Selector: sel, Template: *template,
		},
	}
	annotate(d, rs, rev, true)
	return rs
}

func setName(deployment, hash string) string {
	return deployment[:min(len(deployment), 253-len(hash)-1)] + "-" + hash
}

// annotate carries the Deployment's annotations and revision over to its newest
// ReplicaSet and tells whether that changed it.
func annotate(d *appsv1.Deployment, rs *appsv1.ReplicaSet, rev int64, fresh bool) bool {
	before := maps.Clone(rs.Annotations)
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for k, v := range d.Annotations {
		if !ownAnnotation(k) {
			rs.Annotations[k] = v
		}
	}
	old, had := rs.Annotations[annotationRevision]
	if revision(rs) < rev {
		rs.Annotations[annotationRevision] = strconv.FormatInt(rev, 10)
		if had {
			rs.Annotations[annotationHistory] = appendHistory(rs.Annotations[annotationHistory], old)
		}
	}
	if fresh {
		setSize(d, rs, *rs.Spec.Replicas)
	}
	return !maps.Equal(before, rs.Annotations)
}

func ownAnnotation(k string) bool {
	switch k {
	case corev1.LastAppliedConfigAnnotation, annotationRevision, annotationHistory, annotationDesired, annotationMax, annotationRollback:
		return true
	}
	return false
}

func appendHistory(history, rev string) string {
	if history == "" {
		return rev
	}
	history += "," + rev
	for len(history) > historyLimit {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}

// setSize sets the replicas of a ReplicaSet and notes the size of its Deployment,
// from which proportional scaling starts; it tells whether either changed.
func setSize(d *appsv1.Deployment, rs *appsv1.ReplicaSet, n int32) bool {
	desired := strconv.Itoa(int(*d.Spec.Replicas))
	limit := strconv.Itoa(int(*d.Spec.Replicas + maxSurge(d)))
	if *rs.Spec.Replicas == n && rs.Annotations[annotationDesired] == desired && rs.Annotations[annotationMax] == limit {
		return false
	}
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[annotationDesired], rs.Annotations[annotationMax] = desired, limit
	rs.Spec.Replicas = &n
	return true
}
