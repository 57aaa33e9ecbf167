package garbage

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// standing is what has become of an owner.
type standing int

const (
	solid   standing = iota // it is there and keeps its dependents
	waiting                 // it is being deleted and waits for its dependents to go first
	absent                  // it is gone, or another object has its name
)

// fate is what becomes of a dependent.
type fate struct {
	// detach lists the owners to take out of its references; it stays.
	detach []types.UID
	// remove deletes it, passing on how its own dependents are to be treated.
	remove bool
	policy metav1.DeletionPropagation
}

// judge decides about a dependent: it stays as long as one owner stands for it.
// hasDependents tells whether others depend on it in turn.
func judge(m *meta, stands func(metav1.OwnerReference) standing, hasDependents bool) fate {
	kept, waits := false, false
	var loose []types.UID
	for _, ref := range m.owners {
		switch stands(ref) {
		case solid:
			kept = true
		case waiting:
			waits = true
			loose = append(loose, ref.UID)
		case absent:
			loose = append(loose, ref.UID)
		}
	}
	switch {
	case len(loose) == 0:
		return fate{}
	case kept:
		return fate{detach: loose}
	case waits && hasDependents, m.foreground:
		// The whole tree below has to go before the owner that waits.
		return fate{remove: true, policy: metav1.DeletePropagationForeground}
	case m.orphans:
		return fate{remove: true, policy: metav1.DeletePropagationOrphan}
	}
	return fate{remove: true, policy: metav1.DeletePropagationBackground}
}
