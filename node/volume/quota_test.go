package volume_test

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"copepod/wasmrt"
)

func TestAnEmptyDirHoldsNoMoreThanItsSizeLimit(t *testing.T) {
	m := manager(t, newWorld())
	limited := emptyDir("small")
	limited.EmptyDir.SizeLimit = new(resource.MustParse("1Mi"))
	src := podWith(limited, emptyDir("default"))
	mounts := []v1.VolumeMount{{Name: "small", MountPath: "/a"}, {Name: "small", MountPath: "/b", SubPath: "sub", ReadOnly: true}, {Name: "default", MountPath: "/c"}}
	first := mount(t, m, src, mounts...)
	if first[0].Quota == nil || first[0].Quota != first[1].Quota {
		t.Fatalf("got quotas %p and %p, want one for the volume, however it is mounted", first[0].Quota, first[1].Quota)
	}
	if first[2].Quota == nil || first[2].Quota == first[0].Quota {
		t.Error("an emptyDir without a sizeLimit has no quota of its own")
	}
	if again := mount(t, m, src, mounts...); again[0].Quota != first[0].Quota {
		t.Error("mounting again made another quota")
	}
	if err := os.WriteFile(filepath.Join(first[0].Host, "f"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(src.Pod.UID); err != nil {
		t.Fatal(err)
	}
	if fresh := mount(t, m, src, mounts...); fresh[0].Quota == first[0].Quota || fresh[0].Quota.Used() != (wasmrt.Usage{}) {
		t.Error("the quota of a pod that is gone counts for the next one of its name")
	}
}
