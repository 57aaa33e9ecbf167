// Package scheme knows the Go types that the API serves and how they are read,
// written, defaulted and selected by field. It never learns how they are stored,
// who may see them, or which of them a server installs.
//
// The v1 types of k8s.io/api are registered a second time as the internal
// version of their group, so nothing is ever converted between a wire form and
// an inner form. Events are the exception: core/v1 and events.k8s.io/v1 are two
// faces of one stored object, as in Kubernetes.
//
//	s := scheme.New()
//	codec := s.StorageCodec(schema.GroupVersion{Group: "apps", Version: "v1"})
package scheme

import (
	"fmt"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"copepod/plane/apiserver/defaults"
)

// Scheme is the set of known types with its codecs. It does not change after
// New and is safe for use from many goroutines.
type Scheme struct {
	*runtime.Scheme
	Codecs     serializer.CodecFactory
	Parameters runtime.ParameterCodec
}

// groups are the API groups whose types we know, in the order of discovery.
var groups = []struct {
	version schema.GroupVersion
	add     func(*runtime.Scheme) error
}{
	{corev1.SchemeGroupVersion, corev1.AddToScheme},
	{appsv1.SchemeGroupVersion, appsv1.AddToScheme},
	{autoscalingv1.SchemeGroupVersion, autoscalingv1.AddToScheme},
	{authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme},
	{authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme},
	{coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme},
	{discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme},
	{eventsv1.SchemeGroupVersion, eventsv1.AddToScheme},
	{nodev1.SchemeGroupVersion, nodev1.AddToScheme},
	{policyv1.SchemeGroupVersion, policyv1.AddToScheme},
	{rbacv1.SchemeGroupVersion, rbacv1.AddToScheme},
	{schedulingv1.SchemeGroupVersion, schedulingv1.AddToScheme},
}

// New builds the scheme. The tables it is built from are constants of the
// program, so a mistake in them is a panic.
func New() *Scheme {
	s := runtime.NewScheme()
	for _, g := range groups {
		must(g.add(s))
		addInternal(s, g.version)
		must(s.SetVersionPriority(g.version))
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	s.AddUnversionedTypes(schema.GroupVersion{Version: "v1"},
		&metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	addEvents(s)
	addPodLogOptions(s)
	for gvk, labels := range fieldLabels {
		must(s.AddFieldLabelConversionFunc(gvk, labels.convert))
	}
	defaults.Register(s)
	return &Scheme{
		Scheme:     s,
		Codecs:     serializer.NewCodecFactory(s),
		Parameters: runtime.NewParameterCodec(s),
	}
}

// StorageCodec encodes objects of a group as protobuf in version gv, and
// decodes whatever was stored by any version.
func (s *Scheme) StorageCodec(gv schema.GroupVersion) runtime.Codec {
	info, ok := runtime.SerializerInfoForMediaType(s.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		panic("scheme: the codec factory has no protobuf serializer")
	}
	return s.Codecs.CodecForVersions(info.Serializer, s.Codecs.UniversalDeserializer(), gv, runtime.InternalGroupVersioner)
}

// addInternal registers the types of gv once more as the internal version. Meta
// types (options, watch events) are internal already.
func addInternal(s *runtime.Scheme, gv schema.GroupVersion) {
	internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	for kind, t := range s.KnownTypes(gv) {
		if !strings.HasPrefix(t.PkgPath(), "k8s.io/api/") || gv == eventsv1.SchemeGroupVersion {
			continue
		}
		s.AddKnownTypeWithName(internal.WithKind(kind), reflect.New(t).Interface().(runtime.Object))
	}
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("scheme: %v", err))
	}
}
