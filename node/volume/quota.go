package volume

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/wasmrt"
)

const (
	emptyDirBytes = 4 << 30 // that an emptyDir without a sizeLimit may hold
	bytesPerName  = 4 << 10 // as common file systems plan for
	fewestNames   = 1 << 10
	mostNames     = 1 << 20
)

// quota is what an emptyDir may hold, counted for all containers of the pod
// together, and by scan when this process has not seen the volume yet. In
// Kubernetes a pod that goes over its sizeLimit is evicted once that is noticed;
// here its writes fail with ENOSPC at the limit, and it may go on.
func (m *Manager) quota(pod types.UID, v *v1.Volume, path string) (*wasmrt.Quota, error) {
	m.mu.Lock()
	q := m.quotas[pod][v.Name]
	m.mu.Unlock()
	if q != nil {
		return q, nil
	}
	most := wasmrt.Usage{Bytes: m.cfg.EmptyDirBytes}
	if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 {
		most.Bytes = limit.Value()
	}
	most.Names = min(max(most.Bytes/bytesPerName, fewestNames), mostNames)
	fresh, err := wasmrt.NewQuota(path, most)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if q = m.quotas[pod][v.Name]; q != nil { // another Mount of the pod was faster
		return q, nil
	}
	if m.quotas[pod] == nil {
		m.quotas[pod] = map[string]*wasmrt.Quota{}
	}
	m.quotas[pod][v.Name] = fresh
	return fresh, nil
}
