package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// census is what a namespace still holds.
type census struct {
	remaining  map[string]int // resource → objects
	finalizers map[string]int // finalizer → objects that it keeps
	refused    []error        // deletions that failed
}

func (c census) empty() bool { return len(c.remaining) == 0 }

// conditions are those that Kubernetes shows on a namespace that is being
// deleted, so that one that hangs says why.
func conditions(have []corev1.NamespaceCondition, c census, now time.Time) []corev1.NamespaceCondition {
	list := slices.Clone(have)
	set := func(kind corev1.NamespaceConditionType, bad bool, reason, message string) {
		status := corev1.ConditionFalse
		if bad {
			status = corev1.ConditionTrue
		}
		next := corev1.NamespaceCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
		at := slices.IndexFunc(list, func(c corev1.NamespaceCondition) bool { return c.Type == kind })
		switch {
		case at < 0:
			list = append(list, next)
		case list[at].Status == status && list[at].Reason == reason && list[at].Message == message:
		default:
			if list[at].Status == status {
				next.LastTransitionTime = list[at].LastTransitionTime
			}
			list[at] = next
		}
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, false, "ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "ParsedGroupVersions", "All legacy kube types successfully parsed")
	if len(c.refused) > 0 {
		set(corev1.NamespaceDeletionContentFailure, true, "ContentDeletionFailed", "Failed to delete all resource types, "+fmt.Sprintf("%d remaining: %v", len(c.refused), c.refused[0]))
	} else {
		set(corev1.NamespaceDeletionContentFailure, false, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	}
	if len(c.remaining) > 0 {
		set(corev1.NamespaceContentRemaining, true, "SomeResourcesRemain", "Some resources are remaining: "+remains(c.remaining, "%s has %d resource instances"))
	} else {
		set(corev1.NamespaceContentRemaining, false, "ContentRemoved", "All content successfully removed")
	}
	if len(c.finalizers) > 0 {
		set(corev1.NamespaceFinalizersRemaining, true, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+remains(c.finalizers, "%s in %d resource instances"))
	} else {
		set(corev1.NamespaceFinalizersRemaining, false, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	}
	return list
}

func remains(counts map[string]int, format string) string {
	parts := make([]string, 0, len(counts))
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(format, k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
