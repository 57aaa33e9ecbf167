package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// EventsConfig configures Events.
type EventsConfig struct {
	Client corev1.EventsGetter
	Host   string  // of the event's source
	Status *Writer // whose reports go first; nil: none
	Queue  int     // events that may wait; more are dropped and counted; 0 = 16384
	Log    *slog.Logger
}

// Events sends events one by one, after statuses. What repeats is counted, and
// what floods is cut, by the rules of every Kubernetes component.
type Events struct {
	cfg        EventsConfig
	correlator *record.EventCorrelator
	wake       chan struct{}

	mu      sync.Mutex // guards what follows
	queue   []*v1.Event
	dropped int
	stamp   int64 // of the last name given
}

// NewEvents makes a sender of events.
func NewEvents(cfg EventsConfig) (*Events, error) {
	if cfg.Client == nil || cfg.Host == "" {
		return nil, errors.New("events: Client and Host must be given")
	}
	cfg.Queue = cmp.Or(cfg.Queue, 16384)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Events{
		cfg: cfg, wake: make(chan struct{}, 1),
		correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{}),
	}, nil
}

// Event takes an event about an object, as the kubelet would write it.
func (e *Events) Event(about v1.ObjectReference, eventType, reason, message string) {
	const most = 1024 // bytes; the API allows no more
	if len(message) > most {
		message = message[:most-3] + "..."
	}
	namespace := cmp.Or(about.Namespace, metav1.NamespaceDefault)
	now := metav1.Now()
	e.mu.Lock()
	if len(e.queue) >= e.cfg.Queue {
		e.dropped++
		e.mu.Unlock()
		return
	}
	e.stamp = max(e.stamp+1, now.UnixNano())
	e.queue = append(e.queue, &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", about.Name, e.stamp), Namespace: namespace},
		InvolvedObject: about,
		Reason:         reason,
		Message:        message,
		FirstTimestamp: now,
		LastTimestamp:  now,
		Count:          1,
		Type:           eventType,
		Source:         v1.EventSource{Component: "kubelet", Host: e.cfg.Host},

		ReportingController: "kubelet",
		ReportingInstance:   e.cfg.Host,
	})
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run sends events until ctx ends.
func (e *Events) Run(ctx context.Context) error {
	for {
		event, dropped := e.take()
		if dropped > 0 {
			e.cfg.Log.Warn("events dropped", "count", dropped)
		}
		if event == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-e.wake:
				continue
			}
		}
		e.yield(ctx)
		if err := e.send(ctx, event); err != nil && ctx.Err() == nil {
			e.cfg.Log.Warn("event not written", "reason", event.Reason, "object", event.InvolvedObject.Name, "err", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (e *Events) take() (*v1.Event, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	dropped := e.dropped
	e.dropped = 0
	if len(e.queue) == 0 {
		e.queue = nil
		return nil, dropped
	}
	event := e.queue[0]
	e.queue[0] = nil
	e.queue = e.queue[1:]
	return event, dropped
}

// yield lets statuses go first: a node that starts a thousand pods reports
// them ready before it tells how. It holds an event back for a second at most.
func (e *Events) yield(ctx context.Context) {
	if e.cfg.Status == nil {
		return
	}
	for range 100 {
		if ctx.Err() != nil || e.cfg.Status.idle() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// send writes one event, or counts it on the one that it repeats.
func (e *Events) send(ctx context.Context, event *v1.Event) error {
	result, err := e.correlator.EventCorrelate(event)
	if err != nil || result.Skip {
		return err
	}
	client := e.cfg.Client.Events(result.Event.Namespace)
	var written *v1.Event
	if result.Event.Count > 1 && len(result.Patch) > 0 {
		written, err = client.Patch(ctx, result.Event.Name, types.StrategicMergePatchType, result.Patch, metav1.PatchOptions{})
	}
	if written == nil && (err == nil || apierrors.IsNotFound(err)) {
		result.Event.ResourceVersion = ""
		written, err = client.Create(ctx, result.Event, metav1.CreateOptions{})
	}
	if err != nil {
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil
		}
		return err
	}
	e.correlator.UpdateState(written)
	return nil
}
