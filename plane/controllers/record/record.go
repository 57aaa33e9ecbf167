// Package record writes events about objects (core/v1 Event), as Kubernetes'
// components do: an event that repeats raises the count of the first, many
// similar ones are combined, and an object that floods is cut off. It knows
// references and texts, never what they mean.
//
// Recording never blocks and never fails its caller: events wait in a bounded
// queue, leave in batches, and are dropped and counted when the cluster cannot
// keep up.
//
//	r := record.New(record.Config{Client: api, Component: "replicaset-controller"})
//	go r.Run(ctx)
//	r.Event(record.Reference(rs, apps.WithKind("ReplicaSet")), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", name)
package record

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/controllers/api"
)

// Writer is what a recorder needs of the cluster.
type Writer interface {
	CreateAll(ctx context.Context, objs []api.Object) ([]api.Object, []error)
	Modify(ctx context.Context, gr schema.GroupResource, namespace, name, subresource string, change func(api.Object) error) (api.Object, error)
}

// Config says who speaks. Client and Component are needed.
type Config struct {
	Client Writer
	// Component is the source of every event, for example "default-scheduler".
	Component string
	// Queue is how many events may wait; default 4,096.
	Queue int
	Log   *slog.Logger
	// Dropped is called for every event that found the queue full.
	Dropped func()
}

// Recorder queues events and writes them while it runs.
type Recorder struct {
	cfg   Config
	queue chan occurrence
}

// New builds a recorder; events wait until Run.
func New(cfg Config) *Recorder {
	cfg.Queue = cmp.Or(cfg.Queue, 4096)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("component", cfg.Component)
	if cfg.Dropped == nil {
		cfg.Dropped = func() {}
	}
	return &Recorder{cfg: cfg, queue: make(chan occurrence, cfg.Queue)}
}

// occurrence is one thing that happened.
type occurrence struct {
	on                    corev1.ObjectReference
	kind, reason, message string
	at                    time.Time
}

// Reference names an object in an event.
func Reference(o metav1.Object, gvk schema.GroupVersionKind) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
}

// messageLimit is Kubernetes' bound on an event's message, in bytes.
const messageLimit = 1024

// Event notes that something happened to an object. kind is Normal or Warning.
func (r *Recorder) Event(on corev1.ObjectReference, kind, reason, format string, args ...any) {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	if len(message) > messageLimit {
		message = strings.ToValidUTF8(message[:messageLimit], "") // no half character at the end
	}
	select {
	case r.queue <- occurrence{on: on, kind: kind, reason: reason, message: message, at: time.Now()}:
	default:
		r.cfg.Dropped()
	}
}

const (
	batchLimit = 512
	// linger lets the companions of a first event come, so that a burst is one
	// write. Nobody waits for an event.
	linger = 20 * time.Millisecond
)

// Run writes events until ctx ends. What still waits then is lost: whoever
// leads next sees the same things and speaks for itself.
func (r *Recorder) Run(ctx context.Context) error {
	c := newCorrelator()
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-r.queue:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(linger):
			}
			r.write(ctx, c, r.gather(first))
		}
	}
}

func (r *Recorder) gather(first occurrence) []occurrence {
	batch := []occurrence{first}
	for len(batch) < batchLimit {
		select {
		case o := <-r.queue:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

// write makes one batch of new events and raises the counts of known ones.
func (r *Recorder) write(ctx context.Context, c *correlator, batch []occurrence) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var fresh []api.Object
	var freshKeys []string
	raised := map[string]*series{}
	for _, o := range batch {
		s, verdict := c.observe(o)
		switch verdict {
		case isNew:
			fresh = append(fresh, r.event(s))
			freshKeys = append(freshKeys, s.key)
		case isRepeat:
			raised[s.key] = s
		}
	}
	for i, key := range freshKeys {
		if s := raised[key]; s != nil { // repeated within the batch
			fresh[i] = r.event(s)
			delete(raised, key)
		}
	}
	if len(fresh) > 0 {
		_, errs := r.cfg.Client.CreateAll(ctx, fresh)
		for i, err := range errs {
			if err != nil {
				c.forget(freshKeys[i])
				r.refused(fresh[i], err)
			}
		}
	}
	for _, s := range raised {
		if err := r.raise(ctx, s); err != nil {
			c.forget(s.key)
			r.refused(r.event(s), err)
		}
	}
}

func (r *Recorder) refused(o api.Object, err error) {
	e := o.(*corev1.Event)
	r.cfg.Log.Debug("event not written", "on", e.InvolvedObject.Kind+" "+e.Namespace+"/"+e.InvolvedObject.Name, "reason", e.Reason, "err", err)
}

func (r *Recorder) raise(ctx context.Context, s *series) error {
	_, err := r.cfg.Client.Modify(ctx, api.Events, s.namespace(), s.name, "", func(o api.Object) error {
		e := o.(*corev1.Event)
		e.Count, e.LastTimestamp, e.Message = s.count, metav1.NewTime(s.last), s.message
		return nil
	})
	if !apierrors.IsNotFound(err) {
		return err
	}
	// Events expire; a series outlives its object.
	_, errs := r.cfg.Client.CreateAll(ctx, []api.Object{r.event(s)})
	return errs[0]
}

func (r *Recorder) event(s *series) *corev1.Event {
	return &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: s.namespace(), Name: s.name},
		InvolvedObject: s.on, Reason: s.reason, Message: s.message, Type: s.kind,
		Source: corev1.EventSource{Component: r.cfg.Component}, ReportingController: r.cfg.Component,
		FirstTimestamp: metav1.NewTime(s.first), LastTimestamp: metav1.NewTime(s.last), Count: s.count,
	}
}

func (s *series) namespace() string { return cmp.Or(s.on.Namespace, metav1.NamespaceDefault) }

func eventName(object string, at time.Time) string {
	return object + "." + strconv.FormatInt(at.UnixNano(), 16)
}
