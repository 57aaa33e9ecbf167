package status

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errGone says that the pod no longer exists, or that another has its name.
var errGone = errors.New("pod is gone")

// write sends one report: a whole status, with the version of the pod that it
// is based on, which costs the server less than a patch. If somebody else wrote
// the pod in between, the report is laid over what is there now.
func (w *Writer) write(ctx context.Context, r Report, version string) (string, error) {
	pods := w.cfg.Client.Pods(r.Pod.Namespace)
	base := *r.Pod // shallow: only what is replaced below is changed
	base.ResourceVersion = newer(version, base.ResourceVersion)
	for tries := 0; ; tries++ {
		next := base
		next.Status = merge(base.Status, r.Status)
		written, err := pods.UpdateStatus(ctx, &next, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && tries < 5 {
			fresh, getErr := pods.Get(ctx, r.Pod.Name, metav1.GetOptions{})
			switch {
			case getErr != nil:
				err = getErr
			case fresh.UID != r.Pod.UID:
				return "", errGone
			default:
				base = *fresh
				continue
			}
		}
		switch {
		case apierrors.IsNotFound(err):
			return "", errGone
		case err != nil:
			return "", fmt.Errorf("status of pod %s/%s: %w", r.Pod.Namespace, r.Pod.Name, err)
		case written.UID != r.Pod.UID:
			return "", errGone
		case r.Final:
			return written.ResourceVersion, w.remove(ctx, r.Pod)
		}
		return written.ResourceVersion, nil
	}
}

// remove deletes the pod object of a pod that has ended here.
func (w *Writer) remove(ctx context.Context, pod *v1.Pod) error {
	now := int64(0)
	err := w.cfg.Client.Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now,
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return errGone
	}
	return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// owned are the conditions that a node writes; all others belong to somebody
// else and are kept.
var owned = []v1.PodConditionType{
	v1.PodScheduled, v1.PodReadyToStartContainers, v1.PodInitialized, v1.ContainersReady, v1.PodReady,
}

// merge lays our status over the one that is there.
func merge(there, ours v1.PodStatus) v1.PodStatus {
	out := ours
	out.Conditions = slices.Clone(ours.Conditions)
	for _, c := range there.Conditions {
		if !slices.Contains(owned, c.Type) {
			out.Conditions = append(out.Conditions, c)
		}
	}
	if out.QOSClass == "" {
		out.QOSClass = there.QOSClass
	}
	out.NominatedNodeName = there.NominatedNodeName
	out.Resize = there.Resize //nolint:staticcheck // deprecated, but not ours to drop
	out.ResourceClaimStatuses = there.ResourceClaimStatuses
	out.EphemeralContainerStatuses = there.EphemeralContainerStatuses
	return out
}
