package desired_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/desired"
	"copepod/node/objects"
	"copepod/node/pods"
)

func open(t *testing.T, dir string) *desired.Store {
	t.Helper()
	s, err := desired.Open(desired.Config{Dir: dir, Refs: pods.References})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pod(name string, secrets ...string) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Status:     v1.PodStatus{Phase: v1.PodRunning, PodIP: "10.0.0.7"},
	}
	for _, s := range secrets {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: s, VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: s}}})
	}
	return p
}

func ref(name string) objects.Ref {
	return objects.Ref{Kind: objects.Secret, Namespace: "default", Name: name}
}

func secret(name string) *v1.Secret {
	return &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ResourceVersion: "7"}, Data: map[string][]byte{"password": []byte("correct horse")}}
}

func names(list []*v1.Pod) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

// files is the content of every file below dir.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v of %s, want 0600", info.Mode(), path)
		}
		out[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatWasKeptIsThereAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desired")
	s := open(t, dir)
	s.SetPod(pod("web", "db"))
	s.Save(ref("db"), secret("db"))
	s.Save(ref("nobody-refers-to-this"), secret("x"))
	s.SetRange("10.42.3.0/24")
	s.Flush()
	for path, data := range files(t, dir) {
		if bytes.Contains(data, []byte("correct horse")) || bytes.Contains(data, []byte("web")) {
			t.Errorf("got %s in clear", path)
		}
	}
	s = open(t, dir)
	got := s.Pods()
	if names(got) != "web" || got[0].Status.PodIP != "10.0.0.7" || got[0].UID != "uid-web" {
		t.Errorf("got pods %v", got)
	}
	obj, ok := s.Load(ref("db"))
	if !ok || string(obj.(*v1.Secret).Data["password"]) != "correct horse" || obj.GetResourceVersion() != "7" {
		t.Errorf("got %v, %v", obj, ok)
	}
	if _, ok := s.Load(ref("nobody-refers-to-this")); ok {
		t.Error("got a secret that no pod refers to")
	}
	if got := s.Range(); got != "10.42.3.0/24" {
		t.Errorf("got range %q", got)
	}
}

func TestWhatNoPodNeedsIsForgotten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desired")
	s := open(t, dir)
	for _, p := range []*v1.Pod{pod("a", "shared", "own"), pod("b", "shared")} {
		s.SetPod(p)
	}
	for _, name := range []string{"shared", "own"} {
		s.Save(ref(name), secret(name))
	}
	s.Flush()
	s.DropPod("uid-a")
	s.Flush()
	if _, ok := s.Load(ref("own")); ok {
		t.Error("got a secret of a pod that is gone")
	}
	if _, ok := s.Load(ref("shared")); !ok {
		t.Error("got no secret that another pod needs")
	}
	s = open(t, dir) // knows of nothing yet
	if err := s.Keep(func(types.UID) bool { return false }); err != nil {
		t.Fatal(err)
	}
	s.Flush()
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("got %d files left, want the key alone", len(got))
	}
}

func TestPodsThatMustNotStartAgainAreNotKept(t *testing.T) {
	now, yes := metav1.Now(), true
	ends, over, stateful := pod("ends"), pod("over"), pod("db-0")
	ends.DeletionTimestamp = &now
	over.Status.Phase = v1.PodFailed
	stateful.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: &yes}}
	s := open(t, filepath.Join(t.TempDir(), "desired"))
	was := pod("ends")
	s.SetPod(was)
	for _, p := range []*v1.Pod{pod("runs"), ends, over, stateful, {ObjectMeta: metav1.ObjectMeta{Name: "evil", UID: "../../key"}}} {
		s.SetPod(p)
	}
	s.Flush()
	if got := names(s.Pods()); got != "runs" {
		t.Errorf("got pods %q, want runs", got)
	}
}

func TestDamagedAndExchangedFilesAreLeftOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desired")
	s := open(t, dir)
	for _, name := range []string{"good", "torn", "a", "b"} {
		s.SetPod(pod(name))
	}
	s.Flush()
	at := func(name string) string { return filepath.Join(dir, "pods", "uid-"+name) }
	if err := os.Truncate(at("torn"), 20); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("a"), at("b")); err != nil { // a stands where b was
		t.Fatal(err)
	}
	if got := names(open(t, dir).Pods()); got != "good" {
		t.Errorf("got pods %q, want good", got)
	}
}

func TestAKeyThatOthersCanReadIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desired")
	open(t, dir)
	if err := os.Chmod(filepath.Join(dir, "key"), 0o640); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	if _, err := desired.Open(desired.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

func TestARuntimeClassIsKeptForPodsThatNameIt(t *testing.T) {
	class := objects.Ref{Kind: desired.RuntimeClass, Name: "fast"}
	s, err := desired.Open(desired.Config{Dir: filepath.Join(t.TempDir(), "desired"), Refs: func(*v1.Pod) []objects.Ref { return []objects.Ref{class} }})
	if err != nil {
		t.Fatal(err)
	}
	s.SetPod(pod("web"))
	s.Save(class, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Handler: "wasmtime"})
	for range 2 { // from memory, and from disk
		if obj, ok := s.Load(class); !ok || obj.(*nodev1.RuntimeClass).Handler != "wasmtime" {
			t.Errorf("got %v, %v", obj, ok)
		}
		s.Flush()
	}
}
