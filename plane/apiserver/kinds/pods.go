package kinds

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func pods() *Kind {
	return &Kind{
		Version: corev1.SchemeGroupVersion, Plural: "pods", Singular: "pod", Kind: "Pod",
		Object: &corev1.Pod{}, List: &corev1.PodList{}, Short: []string{"po"}, Categories: []string{"all"},
		Status:        true,
		ReturnDeleted: true,
		Generation:    func(obj, old runtime.Object) bool { return specChanged(obj, old) },
		Create: on(func(pod *corev1.Pod) {
			pod.Status.Phase = corev1.PodPending
			pod.Status.QOSClass = qualityOfService(pod)
			if len(pod.Spec.SchedulingGates) > 0 {
				setPodCondition(pod, corev1.PodCondition{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
					Reason: corev1.PodReasonSchedulingGated, Message: "Scheduling is blocked due to non-empty scheduling gates",
				})
			}
		}),
		UpdateStatus: change(func(pod, old *corev1.Pod) {
			pod.DeletionTimestamp = nil // BeforeUpdate sets the old one
			pod.OwnerReferences = old.OwnerReferences
			if pod.Status.QOSClass == "" {
				pod.Status.QOSClass = old.Status.QOSClass
			}
		}),
		ResetStatus: []fieldpath.Path{
			fieldpath.MakePathOrDie("metadata", "deletionTimestamp"),
			fieldpath.MakePathOrDie("metadata", "ownerReferences"),
		},
		Name:   apivalidation.NameIsDNSSubdomain,
		Fields: selectors(podFields),
		Index: storage.IndexerFuncs{"spec.nodeName": func(obj runtime.Object) string {
			return obj.(*corev1.Pod).Spec.NodeName
		}},
		Grace: podGrace,
		Also: func(r *Resource, cfg Config) map[string]Storage {
			return map[string]Storage{
				"binding":     &bindingStorage{r.Store},
				"eviction":    &evictionStorage{r},
				"log":         &logStorage{r.Store, cfg.Nodes},
				"exec":        &unsupportedStorage{"exec"},
				"attach":      &unsupportedStorage{"attach"},
				"portforward": &unsupportedStorage{"portforward"},
			}
		},
	}
}

func podFields(pod *corev1.Pod, set fields.Set) {
	set["spec.nodeName"] = pod.Spec.NodeName
	set["spec.restartPolicy"] = string(pod.Spec.RestartPolicy)
	set["spec.schedulerName"] = pod.Spec.SchedulerName
	set["spec.serviceAccountName"] = pod.Spec.ServiceAccountName
	set["spec.hostNetwork"] = strconv.FormatBool(pod.Spec.HostNetwork)
	set["status.phase"] = string(pod.Status.Phase)
	set["status.podIP"] = pod.Status.PodIP
	set["status.podIPs"] = podIPs(pod.Status.PodIPs)
	set["status.nominatedNodeName"] = pod.Status.NominatedNodeName
}

func podIPs(ips []corev1.PodIP) string {
	if len(ips) < 2 { // most pods, without a copy
		if len(ips) == 0 {
			return ""
		}
		return ips[0].IP
	}
	all := make([]string, len(ips))
	for i, ip := range ips {
		all[i] = ip.IP
	}
	return strings.Join(all, ",")
}

// podGrace settles how long a pod may take to end. Where nothing runs, nothing
// needs time.
func podGrace(obj runtime.Object, opts *metav1.DeleteOptions) {
	pod := obj.(*corev1.Pod)
	var period int64
	switch {
	case opts.GracePeriodSeconds != nil:
		period = *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		period = 0
	}
	if period < 0 {
		period = 1
	}
	opts.GracePeriodSeconds = &period
}

// setPodCondition adds or replaces a condition. The time of transition moves
// only when the status does.
func setPodCondition(pod *corev1.Pod, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now()
	for i := range pod.Status.Conditions {
		old := &pod.Status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		*old = c
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}

// qualityOfService follows Kubernetes: Guaranteed when every container limits
// CPU and memory and requests no less, BestEffort when none asks for anything.
func qualityOfService(pod *corev1.Pod) corev1.PodQOSClass {
	guaranteed, any := true, false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			r := &list[i].Resources
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := r.Requests[name], r.Limits[name]
				if !request.IsZero() || !limit.IsZero() {
					any = true
				}
				if limit.IsZero() || (!request.IsZero() && request.Cmp(limit) != 0) {
					guaranteed = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}
