package kinds

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/apiserver/pkg/registry/rest"
)

// NodeTransport reaches the servers of nodes.
type NodeTransport interface {
	// Host gives the host by which Transport knows a node's server.
	Host(ctx context.Context, node string) (string, error)
	// Transport carries requests there under our own identity.
	Transport() http.RoundTripper
}

// logStorage serves pods/log by streaming from the pod's node.
type logStorage struct {
	store *registry.Store
	nodes NodeTransport
}

func (l *logStorage) New() runtime.Object { return &corev1.Pod{} }
func (l *logStorage) Destroy()            {}

func (l *logStorage) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

// ProducesMIMETypes and ProducesObject describe the answer to OpenAPI.
func (l *logStorage) ProducesMIMETypes(string) []string { return []string{"text/plain"} }
func (l *logStorage) ProducesObject(string) any         { return "" }

// OverrideMetricsVerb keeps followed logs out of the latency of GET.
func (l *logStorage) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

func (l *logStorage) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	opts, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	if errs := validateLogOptions(opts); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	obj, err := l.store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := obj.(*corev1.Pod)
	container, err := logContainer(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" { // nothing was ever written
		return &genericrest.LocationStreamer{}, nil
	}
	host, err := l.nodes.Host(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	return &genericrest.LocationStreamer{
		Location: &url.URL{
			Scheme:   "https",
			Host:     host,
			Path:     fmt.Sprintf("/containerLogs/%s/%s/%s", pod.Namespace, pod.Name, container),
			RawQuery: logQuery(opts).Encode(),
		},
		Transport:       l.nodes.Transport(),
		ContentType:     "text/plain",
		Flush:           opts.Follow,
		ResponseChecker: nodeAnswer{},
		RedirectChecker: genericrest.PreventRedirects,
	}, nil
}

// logContainer picks the container that is meant, in Kubernetes' words.
func logContainer(pod *corev1.Pod, name string) (string, error) {
	names := containerNames(pod.Spec.Containers)
	inits := containerNames(pod.Spec.InitContainers)
	if name == "" {
		switch len(names) {
		case 1:
			return names[0], nil
		case 0:
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
		if len(inits) > 0 {
			message += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
		}
		return "", apierrors.NewBadRequest(message)
	}
	for _, known := range append(names, inits...) {
		if known == name {
			return name, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func containerNames(containers []corev1.Container) []string {
	names := make([]string, len(containers))
	for i := range containers {
		names[i] = containers[i].Name
	}
	return names
}

func validateLogOptions(o *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	return errs
}

func logQuery(o *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if on {
			q.Set(name, "true")
		}
	}
	for name, n := range map[string]*int64{"sinceSeconds": o.SinceSeconds, "tailLines": o.TailLines, "limitBytes": o.LimitBytes} {
		if n != nil {
			q.Set(name, strconv.FormatInt(*n, 10))
		}
	}
	if o.SinceTime != nil {
		q.Set("sinceTime", o.SinceTime.Format(time.RFC3339))
	}
	return q
}

// nodeAnswer turns a refusal of the node into an error with the node's words.
type nodeAnswer struct{}

// maxNodeError bounds how much of a node's refusal is read.
const maxNodeError = 10000

func (nodeAnswer) Check(resp *http.Response) error {
	if resp.StatusCode >= http.StatusOK && resp.StatusCode <= http.StatusPartialContent {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeError))
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read the node's answer: %w", err))
	}
	message := strings.TrimSpace(string(body))
	if resp.StatusCode == http.StatusBadRequest {
		return apierrors.NewBadRequest(message)
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, "", corev1.Resource("pods/log"), "", message, 0, true)
}

// unsupportedStorage answers the streams that a module without processes and
// shells cannot serve.
type unsupportedStorage struct{ verb string }

func (u *unsupportedStorage) New() runtime.Object { return &corev1.Pod{} }
func (u *unsupportedStorage) Destroy()            {}

func (u *unsupportedStorage) NewConnectOptions() (runtime.Object, bool, string) {
	return nil, false, ""
}
func (u *unsupportedStorage) ConnectMethods() []string { return []string{"GET", "POST"} }

func (u *unsupportedStorage) Connect(context.Context, string, runtime.Object, rest.Responder) (http.Handler, error) {
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotImplemented,
		Reason:  "NotImplemented",
		Message: u.verb + " is not supported by the wasm runtime",
	}}
}
