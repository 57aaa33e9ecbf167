package pods

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/logs"
)

// ErrNotFound says that this node has no such pod or container.
var ErrNotFound = errors.New("not found")

// find is the worker that has a name now.
func (m *Manager) find(namespace, name string) (*worker, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.names[types.NamespacedName{Namespace: namespace, Name: name}]
	if w == nil {
		return nil, fmt.Errorf("pod %q in namespace %q: %w", name, namespace, ErrNotFound)
	}
	return w, nil
}

// WaitingError says that a container has not run yet, so that it has no logs.
type WaitingError struct{ Container, Pod, Reason string }

func (e *WaitingError) Error() string {
	return fmt.Sprintf("container %q in pod %q is waiting to start: %s", e.Container, e.Pod, e.Reason)
}

// NoContainerError says that a pod has no such container, or that a container
// has not run before.
type NoContainerError struct {
	Container, Pod string
	Previous       bool
}

func (e *NoContainerError) Error() string {
	if e.Previous {
		return fmt.Sprintf("previous terminated container %q in pod %q not found", e.Container, e.Pod)
	}
	return fmt.Sprintf("container %s is not valid for pod %s", e.Container, e.Pod)
}

// ReadLogs copies the logs of a container to out; previous means those of the
// run before. Its errors are ErrNotFound, *NoContainerError, *WaitingError, or
// what reading and writing said.
func (m *Manager) ReadLogs(ctx context.Context, out io.Writer, namespace, name, container string, previous bool, opts logs.Options) error {
	w, err := m.find(namespace, name)
	if err != nil {
		return err
	}
	pod := w.snapshot()
	var cs *v1.ContainerStatus
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == container {
				cs = &list[i]
			}
		}
	}
	if cs == nil {
		return &NoContainerError{Container: container, Pod: name}
	}
	run := cs.RestartCount
	if previous {
		run--
	}
	switch {
	case run >= 0 && m.cfg.Logs.Has(w.logs(), container, run):
		return m.cfg.Logs.Read(ctx, out, w.logs(), container, run, opts)
	case previous:
		return &NoContainerError{Container: container, Pod: name, Previous: true}
	case cs.State.Waiting != nil:
		return &WaitingError{Container: container, Pod: name, Reason: cs.State.Waiting.Reason}
	}
	return nil // it ran and wrote nothing
}
