package pods

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"copepod/node/runtime"
)

// Usage is what a pod uses, container by container. Those whose runtime does not
// know are left out.
type Usage struct {
	Pod        *v1.Pod
	Containers []ContainerUsage
}

// ContainerUsage is what one container uses now.
type ContainerUsage struct {
	Name    string
	Started time.Time
	runtime.Stats
}

// meterable is a container whose usage is known.
type meterable struct {
	name    string
	started time.Time
	statser runtime.Statser
}

// meter adds a running container to those whose usage is known.
func (w *worker) meter(name string, started time.Time, c runtime.Container) {
	if s, ok := c.(runtime.Statser); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.metered = append(w.metered, meterable{name, started, s})
	}
}

// unmeter takes it out again.
func (w *worker) unmeter(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.metered = slices.DeleteFunc(w.metered, func(m meterable) bool { return m.name == name })
}

// Usage is what all running pods use.
func (m *Manager) Usage() []Usage {
	m.mu.Lock()
	workers := make([]*worker, 0, len(m.workers))
	for _, w := range m.workers {
		workers = append(workers, w)
	}
	m.mu.Unlock()
	var out []Usage
	for _, w := range workers {
		w.mu.Lock()
		metered := slices.Clone(w.metered)
		w.mu.Unlock()
		if len(metered) == 0 {
			continue
		}
		u := Usage{Pod: w.snapshot()}
		for _, c := range metered {
			u.Containers = append(u.Containers, ContainerUsage{c.name, c.started, c.statser.Stats()})
		}
		out = append(out, u)
	}
	return out
}
