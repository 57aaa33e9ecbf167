package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	namespace = "chaos"
	slots     = 8 // keys in use at a time
	// generation is how long a key is used: a check is exponential in the worst
	// case, so histories of one key stay short.
	generation = 8 * time.Second
	rootCA     = "kube-root-ca.crt" // a controller's, in every namespace
	patience   = 5 * time.Second    // of a client with one request
)

// clients write and read registers through all nodes, and keep what they were told.
type clients struct {
	c     *cluster
	start time.Time

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	lists   []listing
	errors  map[string]int // of unknown outcome, by what was said
}

func (h *clients) now() int64 { return int64(time.Since(h.start)) }

func (h *clients) key(r *rand.Rand) string {
	return fmt.Sprintf("r%d-%d", r.IntN(slots), time.Since(h.start)/generation)
}

// run is one client of one node, until ctx ends.
func (h *clients) run(ctx context.Context, id int, n *node, r *rand.Rand) {
	seen := map[string]uint64{} // revisions
	for count := 0; ctx.Err() == nil; count++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(10+r.IntN(60)) * time.Millisecond):
		}
		if r.IntN(40) == 0 {
			h.list(n)
			continue
		}
		in := input{kind: get, key: h.key(r)}
		switch d := r.IntN(100); {
		case d < 35:
		case d < 50:
			in.kind = create
		case d < 85:
			in.kind, in.expect = update, seen[in.key]
		case d < 93:
			in.kind = update
		default:
			in.kind, in.expect = remove, seen[in.key]
		}
		if in.kind == create || in.kind == update {
			in.value = fmt.Sprintf("%d.%d", id, count)
		}
		call := h.now()
		out, err := h.do(n, in)
		if out.answer == done && out.rev > 0 {
			seen[in.key] = out.rev
		}
		h.record(id, in, out, call, err)
	}
}

// record keeps an operation that was called at a time and returns now.
func (h *clients) record(id int, in input, out output, call int64, err error) {
	back := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.errors[reason(err)]++
	}
	h.history = append(h.history, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: back})
}

// register is a ConfigMap with a value.
func register(key, value, rev string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key, Namespace: namespace, ResourceVersion: rev}, Data: map[string]string{"v": value}}
}

// do asks once: a client that repeats what may have been done would be told of
// a conflict with itself.
func (h *clients) do(n *node, in input) (output, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rest := n.client.CoreV1().RESTClient()
	expect := ""
	if in.expect > 0 {
		expect = strconv.FormatUint(in.expect, 10)
	}
	var err error
	var got corev1.ConfigMap
	switch in.kind {
	case get:
		err = rest.Get().Namespace(namespace).Resource("configmaps").Name(in.key).MaxRetries(0).Do(ctx).Into(&got)
	case create:
		err = rest.Post().Namespace(namespace).Resource("configmaps").Body(register(in.key, in.value, "")).MaxRetries(0).Do(ctx).Into(&got)
	case update:
		err = rest.Put().Namespace(namespace).Resource("configmaps").Name(in.key).Body(register(in.key, in.value, expect)).MaxRetries(0).Do(ctx).Into(&got)
	case remove:
		var options metav1.DeleteOptions
		if expect != "" {
			options.Preconditions = &metav1.Preconditions{ResourceVersion: &expect}
		}
		err = rest.Delete().Namespace(namespace).Resource("configmaps").Name(in.key).Body(&options).MaxRetries(0).Do(ctx).Error()
	}
	switch {
	case err == nil && in.kind == remove:
		return output{answer: done}, nil
	case err == nil:
		return output{answer: done, value: got.Data["v"], rev: revision(got.ResourceVersion)}, nil
	case apierrors.IsNotFound(err):
		return output{answer: missing}, nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return output{answer: conflict}, nil
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsTooManyRequests(err):
		return output{answer: refused}, err
	}
	return output{answer: unknown}, err
}

func (h *clients) list(n *node) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l := listing{call: h.now(), items: map[string]output{}}
	var got corev1.ConfigMapList
	if err := n.client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("configmaps").
		VersionedParams(&metav1.ListOptions{LabelSelector: ""}, scheme.ParameterCodec).MaxRetries(0).Do(ctx).Into(&got); err != nil {
		return
	}
	l.rev = revision(got.ResourceVersion)
	for _, cm := range got.Items {
		if cm.Name == rootCA {
			continue
		}
		l.items[cm.Name] = output{value: cm.Data["v"], rev: revision(cm.ResourceVersion)}
	}
	h.mu.Lock()
	h.lists = append(h.lists, l)
	h.mu.Unlock()
}

func revision(s string) uint64 {
	rev, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0 // the checks find it: no revision is 0
	}
	return rev
}

// reason is an error without what differs each time.
func reason(err error) string {
	if status, ok := err.(apierrors.APIStatus); ok {
		s := status.Status()
		return fmt.Sprintf("%d %s", s.Code, s.Reason)
	}
	return fmt.Sprintf("%.60s", lastWords(err))
}
