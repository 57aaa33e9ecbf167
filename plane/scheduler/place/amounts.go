package place

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// amounts is quantities of resources: CPU in thousandths, all else in units.
type amounts struct {
	cpu, memory, storage int64
	others               []amount // extended resources, by name, none of zero
}

type amount struct {
	name corev1.ResourceName
	n    int64
}

func amountsOf(list corev1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
		default:
			if n := q.Value(); n != 0 {
				a.others = append(a.others, amount{name, n})
			}
		}
	}
	slices.SortFunc(a.others, func(x, y amount) int { return cmp.Compare(x.name, y.name) })
	return a
}

// add changes a by times b.
func (a *amounts) add(b *amounts, times int64) {
	a.cpu += b.cpu * times
	a.memory += b.memory * times
	a.storage += b.storage * times
	for _, o := range b.others {
		at, ok := slices.BinarySearchFunc(a.others, o.name, func(x amount, name corev1.ResourceName) int { return cmp.Compare(x.name, name) })
		if !ok {
			a.others = slices.Insert(a.others, at, amount{name: o.name})
		}
		a.others[at].n += o.n * times
	}
}

func (a *amounts) other(name corev1.ResourceName) int64 {
	for _, o := range a.others {
		if o.name == name {
			return o.n
		}
	}
	return 0
}

// short lists the resources of which less is free than wanted; what is not
// wanted cannot be short.
func short(want, used, all *amounts) []corev1.ResourceName {
	var list []corev1.ResourceName
	if want.cpu > 0 && want.cpu > all.cpu-used.cpu {
		list = append(list, corev1.ResourceCPU)
	}
	if want.memory > 0 && want.memory > all.memory-used.memory {
		list = append(list, corev1.ResourceMemory)
	}
	if want.storage > 0 && want.storage > all.storage-used.storage {
		list = append(list, corev1.ResourceEphemeralStorage)
	}
	for _, o := range want.others {
		if o.n > all.other(o.name)-used.other(o.name) {
			list = append(list, o.name)
		}
	}
	return list
}

// times is how often want fits into what is free, at most limit.
func times(want, used, all *amounts, limit int64) int64 {
	fit := func(want, free int64) {
		if want > 0 {
			limit = min(limit, max(0, free)/want)
		}
	}
	fit(want.cpu, all.cpu-used.cpu)
	fit(want.memory, all.memory-used.memory)
	fit(want.storage, all.storage-used.storage)
	for _, o := range want.others {
		fit(o.n, all.other(o.name)-used.other(o.name))
	}
	return max(0, limit)
}
