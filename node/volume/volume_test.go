package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/node/downward"
	"copepod/node/runtime"
	"copepod/node/volume"
)

// world is what volumes are filled from.
type world struct {
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
	tokens     int
}

func (w *world) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if cm := w.configMaps[name]; cm != nil {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("configmaps"), name)
}

func (w *world) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	if s := w.secrets[name]; s != nil {
		return s, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("secrets"), name)
}

func (w *world) Token(_ context.Context, _ *v1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	w.tokens++
	return fmt.Sprintf("%s-%d", audience, w.tokens), time.Now().Add(lifetime), nil
}

func newWorld() *world {
	return &world{
		configMaps: map[string]*v1.ConfigMap{"app": {Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0}}}},
		secrets:    map[string]*v1.Secret{"pass": {Data: map[string][]byte{"word": []byte("xyzzy")}}},
	}
}

func manager(t *testing.T, w *world, hostPaths ...string) *volume.Manager {
	t.Helper()
	m, err := volume.New(volume.Config{Dir: t.TempDir(), Objects: w, Tokens: w, HostPaths: hostPaths})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func podWith(volumes ...v1.Volume) downward.Source {
	return downward.Source{Pod: &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u1", Labels: map[string]string{"app": "web"}},
		Spec:       v1.PodSpec{Volumes: volumes},
	}}
}

func configMapVolume(name, cm string, items ...v1.KeyToPath) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: cm}, Items: items,
	}}}
}

func emptyDir(name string) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}
}

func literally(s string) (string, error) { return s, nil }

// mount mounts everything at /v and returns where it lies on the host.
func mount(t *testing.T, m *volume.Manager, src downward.Source, mounts ...v1.VolumeMount) []runtime.Mount {
	t.Helper()
	mounted, err := m.Mount(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	got, done, err := mounted.Mounts(&v1.Container{Name: "app", VolumeMounts: mounts}, literally)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = done.Close() })
	return got
}

// tree reads all visible files below dir, as a guest would.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			for k, v := range tree(t, path) {
				got[e.Name()+"/"+k] = v
			}
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
	}
	return got
}

func same(got, want map[string]string) bool {
	return fmt.Sprint(got) == fmt.Sprint(want)
}

func TestVolumesHoldWhatTheyAreMadeFrom(t *testing.T) {
	yes, mode := true, int32(0o400)
	for _, row := range []struct {
		name   string
		volume v1.VolumeSource
		want   map[string]string
	}{
		{"configMap", configMapVolume("v", "app").VolumeSource, map[string]string{"a": "1", "b": "2", "c": "\x00"}},
		{"configMap items", configMapVolume("v", "app", v1.KeyToPath{Key: "a", Path: "deep/er/a.txt", Mode: &mode}).VolumeSource, map[string]string{"deep/er/a.txt": "1"}},
		{"optional and missing", v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "none"}, Optional: &yes}}, map[string]string{}},
		{"secret", v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "pass"}}, map[string]string{"word": "xyzzy"}},
		{"downwardAPI", v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		}}}, map[string]string{"labels": `app="web"`}},
		{"projected", v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "app"}, Items: []v1.KeyToPath{{Key: "a", Path: "a"}}}},
			{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "pass"}}},
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Audience: "api", Path: "token"}},
		}}}, map[string]string{"a": "1", "word": "xyzzy", "token": "api-1"}},
		{"emptyDir", emptyDir("v").VolumeSource, map[string]string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := mount(t, manager(t, newWorld()), podWith(v1.Volume{Name: "v", VolumeSource: row.volume}), v1.VolumeMount{Name: "v", MountPath: "/v"})
			if files := tree(t, got[0].Host); !same(files, row.want) {
				t.Errorf("got %v, want %v", files, row.want)
			}
			if wantRO := row.volume.EmptyDir == nil; got[0].ReadOnly != wantRO {
				t.Errorf("got read-only %v, want %v", got[0].ReadOnly, wantRO)
			}
		})
	}
}

func TestWhatCannotBeMadeSaysWhichVolumeAndWhy(t *testing.T) {
	for _, row := range []struct {
		name   string
		volume v1.VolumeSource
		want   string
	}{
		{"missing configMap", configMapVolume("v", "none").VolumeSource, `MountVolume.SetUp failed for volume "v" : configmaps "none" not found`},
		{"missing key", configMapVolume("v", "app", v1.KeyToPath{Key: "z", Path: "z"}).VolumeSource, "configmap references non-existent configmap key: z"},
		{"a path that leaves", configMapVolume("v", "app", v1.KeyToPath{Key: "a", Path: "../a"}).VolumeSource, "without '..'"},
		{"hostPath", v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/etc"}}, `hostPath "/etc" is not allowed on this node`},
		{"nfs", v1.VolumeSource{NFS: &v1.NFSVolumeSource{}}, "not supported; use emptyDir"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := manager(t, newWorld()).Mount(t.Context(), podWith(v1.Volume{Name: "v", VolumeSource: row.volume}))
			var e *volume.Error
			if !errors.As(err, &e) || e.Volume != "v" || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestAChangedConfigMapReplacesAllFilesAtOnce(t *testing.T) {
	w := newWorld()
	m, src := manager(t, w), podWith(configMapVolume("v", "app"))
	host := mount(t, m, src, v1.VolumeMount{Name: "v", MountPath: "/v"})[0].Host
	before, err := os.Readlink(filepath.Join(host, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Mount(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(host, "..data")); again != before {
		t.Errorf("got new set %s without a change, want %s", again, before)
	}
	w.configMaps["app"] = &v1.ConfigMap{Data: map[string]string{"a": "new", "d": "4"}}
	if _, err := m.Mount(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, host), map[string]string{"a": "new", "d": "4"}; !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	entries, _ := os.ReadDir(host)
	if len(entries) != 4 { // ..data, one set, a, d
		t.Errorf("got %d entries, want 4: nothing of the old set may stay", len(entries))
	}
}

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := manager(t, w)
		seconds := int64(1000)
		src := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		}}}})
		mounted, err := m.Mount(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := time.Until(mounted.Refresh), 800*time.Second; got != want {
			t.Errorf("got refresh in %v, want %v", got, want)
		}
		if _, err := m.Mount(t.Context(), src); err != nil || w.tokens != 1 {
			t.Errorf("got %d tokens (%v) before the refresh is due, want 1", w.tokens, err)
		}
		time.Sleep(800 * time.Second)
		if _, err := m.Mount(t.Context(), src); err != nil || w.tokens != 2 {
			t.Errorf("got %d tokens (%v) when the refresh is due, want 2", w.tokens, err)
		}
	})
}

func TestSubPathsStayInsideTheirVolume(t *testing.T) {
	m, src := manager(t, newWorld()), podWith(emptyDir("v"), configMapVolume("c", "app"))
	host := mount(t, m, src, v1.VolumeMount{Name: "v", MountPath: "/v"})[0].Host
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out": filepath.Dir(secret), "file": secret, "up": "../.."} {
		if err := os.Symlink(to, filepath.Join(host, name)); err != nil {
			t.Fatal(err)
		}
	}
	mounted, err := m.Mount(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"out", "file", "up", "../x", "/etc", "out/deeper"} {
		c := &v1.Container{Name: "app", VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/x", SubPath: sub}}}
		if got, done, err := mounted.Mounts(c, literally); err == nil {
			_ = done.Close()
			t.Errorf("got %v for subPath %q, want an error", got, sub)
		}
	}
	if _, _, err := mounted.Mounts(&v1.Container{Name: "app", VolumeMounts: []v1.VolumeMount{{Name: "none", MountPath: "/x"}}}, literally); err == nil {
		t.Error("got a mount of a volume that the pod does not have, want an error")
	}
}

func TestSubPathsAreDirectoriesThatAreMadeOrFilesThatAreShared(t *testing.T) {
	m, src := manager(t, newWorld()), podWith(emptyDir("v"), configMapVolume("c", "app"))
	host := mount(t, m, src, v1.VolumeMount{Name: "v", MountPath: "/v"})[0].Host
	if err := os.WriteFile(filepath.Join(host, "f"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := mount(t, m, src,
		v1.VolumeMount{Name: "v", MountPath: "/d", SubPath: "new/dir"},
		v1.VolumeMount{Name: "v", MountPath: "/f", SubPath: "f"},
		v1.VolumeMount{Name: "c", MountPath: "/etc/app.conf", SubPath: "a"})
	if err := os.WriteFile(filepath.Join(got[0].Host, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(host, "new", "dir", "x")); err != nil {
		t.Errorf("a file written through the subPath is not in the volume: %v", err)
	}
	if err := os.WriteFile(filepath.Join(host, "f"), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(got[1].Host); string(data) != "2" {
		t.Errorf("got %q through the file's subPath, want %q", data, "2")
	}
	if data, _ := os.ReadFile(got[2].Host); string(data) != "1" || !got[2].ReadOnly {
		t.Errorf("got %q, read-only %v, want %q, true", data, got[2].ReadOnly, "1")
	}
}

func TestHostPathsAreShownOnlyWhereAllowed(t *testing.T) {
	base := t.TempDir()
	allowed, secret := filepath.Join(base, "ok"), filepath.Join(base, "secret")
	for _, d := range []string{allowed, secret} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(allowed, "link")); err != nil {
		t.Fatal(err)
	}
	m := manager(t, newWorld(), allowed)
	try := func(path string) error {
		_, err := m.Mount(t.Context(), podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path}}}))
		return err
	}
	if err := try(allowed); err != nil {
		t.Errorf("got %v for an allowed path, want nil", err)
	}
	for _, path := range []string{secret, allowed + "/../secret", allowed + "/link"} {
		if try(path) == nil {
			t.Errorf("got %s shown to a pod, want it refused", path)
		}
	}
}

func TestNothingStaysOfPodsThatAreGone(t *testing.T) {
	m := manager(t, newWorld())
	mount(t, m, podWith(emptyDir("v")))
	if err := m.Keep(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.PodDir("u1")); err != nil {
		t.Errorf("a wanted pod lost its directory: %v", err)
	}
	if err := m.Keep(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.PodDir("u1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the directory gone", err)
	}
}

func ExampleManager_Mount() {
	dir, _ := os.MkdirTemp("", "volumes")
	defer func() { _ = os.RemoveAll(dir) }()
	w := newWorld()
	m, _ := volume.New(volume.Config{Dir: dir, Objects: w, Tokens: w})
	mounted, _ := m.Mount(context.Background(), podWith(configMapVolume("config", "app")))
	mounts, done, _ := mounted.Mounts(&v1.Container{Name: "app", VolumeMounts: []v1.VolumeMount{{Name: "config", MountPath: "/etc/app"}}}, literally)
	defer func() { _ = done.Close() }()
	entries, _ := os.ReadDir(mounts[0].Host)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fmt.Println(mounts[0].Guest, mounts[0].ReadOnly, slices.Contains(names, "a"))
	// Output: /etc/app true true
}
