package scheme

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addPodLogOptions teaches the parameter codec the query of pods/log.
func addPodLogOptions(s *runtime.Scheme) {
	must(s.AddConversionFunc((*url.Values)(nil), (*corev1.PodLogOptions)(nil), func(a, b any, _ conversion.Scope) error {
		return podLogOptions(*a.(*url.Values), b.(*corev1.PodLogOptions))
	}))
}

// podLogOptions reads a query as client-go writes it. An absent parameter
// leaves the field as it is; one that cannot be read names itself.
func podLogOptions(query url.Values, out *corev1.PodLogOptions) error {
	out.Container = query.Get("container")
	if query.Has("stream") {
		stream := query.Get("stream")
		out.Stream = &stream
	}
	for name, into := range map[string]*bool{
		"follow":                       &out.Follow,
		"previous":                     &out.Previous,
		"timestamps":                   &out.Timestamps,
		"insecureSkipTLSVerifyBackend": &out.InsecureSkipTLSVerifyBackend,
	} {
		if err := readBool(query, name, into); err != nil {
			return err
		}
	}
	for name, into := range map[string]**int64{
		"sinceSeconds": &out.SinceSeconds,
		"tailLines":    &out.TailLines,
		"limitBytes":   &out.LimitBytes,
	} {
		if err := readInt(query, name, into); err != nil {
			return err
		}
	}
	if since := query.Get("sinceTime"); since != "" {
		t, err := time.Parse(time.RFC3339, since)
		if err != nil {
			return fmt.Errorf("sinceTime: %w", err)
		}
		at := metav1.NewTime(t)
		out.SinceTime = &at
	}
	return nil
}

// readBool follows Kubernetes: a parameter without a value means true, and so
// does every word but "false" and "0".
func readBool(query url.Values, name string, into *bool) error {
	values := []string(query[name])
	if len(values) == 0 {
		return nil
	}
	return runtime.Convert_Slice_string_To_bool(&values, into, nil)
}

func readInt(query url.Values, name string, into **int64) error {
	value := query.Get(name)
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*into = &n
	return nil
}
