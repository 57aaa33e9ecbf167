package scheme_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/apiserver/scheme"
)

func ExampleScheme_StorageCodec() {
	s := scheme.New()
	codec := s.StorageCodec(corev1.SchemeGroupVersion)
	data, err := runtime.Encode(codec, &corev1.ConfigMap{Data: map[string]string{"a": "b"}})
	if err != nil {
		panic(err)
	}
	obj, err := runtime.Decode(codec, data)
	fmt.Println(obj.(*corev1.ConfigMap).Data, err)
	// Output: map[a:b] <nil>
}

func TestEventsKeepEverythingFromOneGroupToTheOther(t *testing.T) {
	s := scheme.New()
	in := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "e", Labels: map[string]string{"a": "b"}},
		EventTime:  metav1.NewMicroTime(time.Unix(1, 0)), Series: &eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(time.Unix(2, 0))},
		ReportingController: "c", ReportingInstance: "i", Action: "act", Reason: "r", Note: "note", Type: "Normal",
		Regarding: corev1.ObjectReference{Name: "about"}, Related: &corev1.ObjectReference{Name: "beside"},
		DeprecatedSource: corev1.EventSource{Component: "s"}, DeprecatedCount: 3,
		DeprecatedFirstTimestamp: metav1.Unix(3, 0), DeprecatedLastTimestamp: metav1.Unix(4, 0),
	}
	core, out := &corev1.Event{}, &eventsv1.Event{}
	if err := s.Convert(in, core, nil); err != nil {
		t.Fatal(err)
	}
	if core.Message != "note" || core.InvolvedObject.Name != "about" || core.Source.Component != "s" || core.Count != 3 {
		t.Errorf("got %+v", core)
	}
	if err := s.Convert(core, out, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Errorf("changed on the way (-in +out):\n%s", diff)
	}
	list := &corev1.EventList{}
	if err := s.Convert(&eventsv1.EventList{Items: []eventsv1.Event{*in, *in}}, list, nil); err != nil || len(list.Items) != 2 {
		t.Errorf("got %d events, %v", len(list.Items), err)
	}
}

func TestObjectsAreDefaultedWhenTheyAreRead(t *testing.T) {
	s := scheme.New()
	data := []byte(`{"apiVersion":"apps/v1","kind":"Deployment","spec":{}}`)
	obj, _, err := s.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Default(obj)
	if got := *obj.(*appsv1.Deployment).Spec.Replicas; got != 1 {
		t.Errorf("got %d replicas, want 1", got)
	}
}

func TestFieldLabelsAreThoseOfKubernetes(t *testing.T) {
	s := scheme.New()
	for _, test := range []struct {
		gvk         schema.GroupVersionKind
		label, want string
	}{
		{corev1.SchemeGroupVersion.WithKind("Pod"), "spec.nodeName", "spec.nodeName"},
		{corev1.SchemeGroupVersion.WithKind("Pod"), "metadata.namespace", "metadata.namespace"},
		{corev1.SchemeGroupVersion.WithKind("Namespace"), "name", "metadata.name"},
		{eventsv1.SchemeGroupVersion.WithKind("Event"), "regarding.name", "involvedObject.name"},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), "metadata.name", "metadata.name"},
		{corev1.SchemeGroupVersion.WithKind("Pod"), "spec.colour", ""},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), "data", ""},
	} {
		got, _, err := s.ConvertFieldLabel(test.gvk, test.label, "x")
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s %s: got %q, %v; want %q", test.gvk.Kind, test.label, got, err, test.want)
		}
	}
}

func TestLogOptionsAreReadFromAQuery(t *testing.T) {
	s := scheme.New()
	query, err := url.ParseQuery("container=c&follow=true&previous=0&tailLines=5&sinceTime=2026-01-02T03:04:05Z&timestamps&limitBytes=9&sinceSeconds=7&stream=Stdout")
	if err != nil {
		t.Fatal(err)
	}
	got := &corev1.PodLogOptions{}
	if err := s.Parameters.DecodeParameters(query, corev1.SchemeGroupVersion, got); err != nil {
		t.Fatal(err)
	}
	five, nine, seven, since, stream := int64(5), int64(9), int64(7), metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), "Stdout"
	want := &corev1.PodLogOptions{Container: "c", Follow: true, Timestamps: true, TailLines: &five, LimitBytes: &nine, SinceSeconds: &seven, SinceTime: &since, Stream: &stream}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read wrongly (-want +got):\n%s", diff)
	}
}

func FuzzLogOptions(f *testing.F) {
	f.Add("follow=true&tailLines=5&sinceTime=2026-01-02T03:04:05Z")
	f.Add("tailLines=-1&limitBytes=9999999999999999999999")
	f.Add("sinceTime=yesterday&follow=maybe&container=%00")
	s := scheme.New()
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		opts := &corev1.PodLogOptions{}
		if err := s.Parameters.DecodeParameters(query, corev1.SchemeGroupVersion, opts); err != nil {
			return
		}
		if opts.Container != query.Get("container") {
			t.Errorf("got container %q of %q", opts.Container, raw)
		}
	})
}
