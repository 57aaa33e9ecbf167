package kubestore

import (
	"encoding/base64"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/storage"
)

// A continue token comes back from the client, who may have made it up.
func FuzzContinueTokenStaysInItsNamespace(f *testing.F) {
	_, _, s := podStorage(f, Config{})
	for _, ns := range []string{"a", "b", "c"} {
		for i := range 5 {
			pod := newPod(fmt.Sprintf("pod-%d", i), "")
			pod.Namespace = ns
			createPod(f, s, pod)
		}
	}
	for _, token := range []string{
		`{"v":"meta.k8s.io/v1","rv":5,"start":"pod-2\u0000"}`,
		`{"v":"meta.k8s.io/v1","rv":-1,"start":"pod-2"}`,
		`{"v":"meta.k8s.io/v1","rv":-9,"start":"pod-2"}`,
		`{"v":"meta.k8s.io/v1","rv":9223372036854775807,"start":"x"}`,
		`{"v":"meta.k8s.io/v1","rv":5,"start":"../c/pod-1"}`,
		`{"v":"meta.k8s.io/v1","rv":5,"start":"\u0000"}`,
		`{"v":"meta.k8s.io/v1"}`,
		`[]`,
	} {
		f.Add([]byte(token), int64(2))
	}
	f.Fuzz(func(t *testing.T, token []byte, limit int64) {
		opts := storage.ListOptions{Recursive: true, Predicate: storage.Everything}
		opts.Predicate.Continue = base64.RawURLEncoding.EncodeToString(token)
		opts.Predicate.Limit = limit
		list := &corev1.PodList{}
		if err := s.GetList(t.Context(), "/core/pods/b", opts, list); err != nil {
			return
		}
		for _, pod := range list.Items {
			if pod.Namespace != "b" {
				t.Errorf("got a pod of namespace %s, want those of b only", pod.Namespace)
			}
		}
	})
}
