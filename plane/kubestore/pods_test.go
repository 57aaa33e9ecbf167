package kubestore

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"

	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
)

var podResource = schema.GroupResource{Resource: "pods"}

// podCodec stores pods as protobuf and serves v1 as the internal version.
func podCodec() runtime.Codec {
	scheme := runtime.NewScheme()
	internal := schema.GroupVersion{Version: runtime.APIVersionInternal}
	if err := corev1.AddToScheme(scheme); err != nil {
		panic(err)
	}
	scheme.AddKnownTypes(internal, &corev1.Pod{}, &corev1.PodList{})
	codecs := serializer.NewCodecFactory(scheme)
	return codecs.CodecForVersions(protobuf.NewSerializer(scheme, scheme), codecs.UniversalDeserializer(),
		corev1.SchemeGroupVersion, runtime.InternalGroupVersioner)
}

// podStorage is the storage of pods as a generic registry would get it, with
// an index of their nodes.
func podStorage(t testing.TB, cfg Config) (*K, *store.Store, storage.Interface) {
	t.Helper()
	st := openStore(t)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k, err := New(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, k.Run)
	s, destroy := decoratePods(t, k)
	t.Cleanup(destroy)
	return k, st, s
}

func decoratePods(t testing.TB, k *K) (storage.Interface, factory.DestroyFunc) {
	t.Helper()
	codec := podCodec()
	getter := k.RESTOptions(func(schema.GroupResource) (runtime.Codec, runtime.GroupVersioner) {
		return codec, corev1.SchemeGroupVersion
	})
	options, err := getter.GetRESTOptions(podResource, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, destroy, err := options.Decorator(options.StorageConfig, options.ResourcePrefix, nil,
		func() runtime.Object { return &corev1.Pod{} }, func() runtime.Object { return &corev1.PodList{} },
		podAttrs, storage.IndexerFuncs{"spec.nodeName": nodeOf}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, destroy
}

func nodeOf(obj runtime.Object) string { return obj.(*corev1.Pod).Spec.NodeName }

func podAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod := obj.(*corev1.Pod)
	return pod.Labels, fields.Set{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace,
		"spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase),
	}, nil
}

// onNode selects the pods of a node, as its agent does.
func onNode(node string) storage.SelectionPredicate {
	return storage.SelectionPredicate{
		Label: labels.Everything(), Field: fields.OneTermEqualSelector("spec.nodeName", node), GetAttrs: podAttrs,
	}
}

func podKey(pod *corev1.Pod) string { return "/core/pods/" + pod.Namespace + "/" + pod.Name }

// newPod is a pod of two containers, as large as an ordinary one.
func newPod(name, node string) *corev1.Pod {
	container := func(name string) corev1.Container {
		return corev1.Container{
			Name: name, Image: "registry.example/team/" + name + ":v1.2.3",
			Args:  []string{"--listen=:8080", "--log=info"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
			Env:   []corev1.EnvVar{{Name: "MODE", Value: "production"}, {Name: "REGION", Value: "north"}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: quantity.MustParse("100m"), corev1.ResourceMemory: quantity.MustParse("64Mi"),
			}},
			VolumeMounts:             []corev1.VolumeMount{{Name: "token", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
			TerminationMessagePath:   "/dev/termination-log",
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			ImagePullPolicy:          corev1.PullIfNotPresent,
		}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: "6d1d2a0e-7b5a-4a51-9b1c-0d6a4c0a5a11",
			Labels:            map[string]string{"app": "web", "pod-template-hash": "5d4f8c7b9d"},
			CreationTimestamp: metav1.Unix(1_700_000_000, 0),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f8c7b9d", UID: "0b8a7f2c-5e0e-4e6c-9a53-2d7d7c6c1b22",
			}},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "controller", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{}},"k:{\"name\":\"sidecar\"}":{".":{},"f:image":{},"f:name":{}}}}}`),
			}},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container("app"), container("sidecar")},
			NodeName:   node, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			ServiceAccountName: "default", SchedulerName: corev1.DefaultSchedulerName,
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable},
	}
}

// createPod stores a pod and returns it as stored.
func createPod(t testing.TB, s storage.Interface, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	out := &corev1.Pod{}
	if err := s.Create(context.Background(), podKey(pod), pod, out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}

// updatePod updates a pod and returns it as stored.
func updatePod(t testing.TB, s storage.Interface, pod *corev1.Pod, edit func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	out := &corev1.Pod{}
	err := s.GuaranteedUpdate(context.Background(), podKey(pod), out, false, nil,
		storage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
			edit(obj.(*corev1.Pod))
			return obj, nil
		}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fill stores n pods, spread over nodes, in one go.
func fill(t testing.TB, k *K, n, nodes int) {
	t.Helper()
	writes := make([]Write, n)
	for i := range writes {
		writes[i] = Write{Resource: podResource, Object: newPod(fmt.Sprintf("pod-%06d", i), fmt.Sprintf("node-%d", i%nodes))}
	}
	for i, w := range k.Write(context.Background(), writes) {
		if w.Err != nil {
			t.Fatalf("write %d: %v", i, w.Err)
		}
	}
}

func newPodObject() runtime.Object { return &corev1.Pod{} }

// countingCodec counts what it decodes.
type countingCodec struct {
	runtime.Codec
	decoded atomic.Int64
}

func (c *countingCodec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	c.decoded.Add(1)
	return c.Codec.Decode(data, defaults, into)
}

// next receives an event, or fails the test.
func next(t testing.TB, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("watch: got its end, want an event")
		}
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("watch: got nothing, want an event")
	}
	return watch.Event{}
}

// podOf is the pod in an event.
func podOf(e watch.Event) *corev1.Pod {
	if c, ok := e.Object.(runtime.CacheableObject); ok {
		return c.GetObject().(*corev1.Pod)
	}
	return e.Object.(*corev1.Pod)
}
