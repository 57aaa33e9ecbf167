package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Longest strings of an event, in bytes.
const (
	maxEventWord = 128 // action, reason, reporting instance
	maxEventNote = 1024
)

// event judges an event of the core API: loosely, since clients of all ages
// write them, unless it has an event time, which only new ones do.
func event(f *findings, e *corev1.Event) {
	about := e.InvolvedObject.Namespace
	if e.EventTime.IsZero() {
		matches := e.Namespace == about
		if about == "" { // cluster-scoped, then the event is in the default namespace
			matches = e.Namespace == metav1.NamespaceNone || e.Namespace == metav1.NamespaceDefault
		}
		f.eventNamespace(about, matches)
	} else {
		f.eventNamespace(about, about != "" || e.Namespace == metav1.NamespaceDefault || e.Namespace == metav1.NamespaceSystem)
		f.reporter(e.ReportingController)
		f.eventWord("reportingInstance", e.ReportingInstance)
		f.eventWord("action", e.Action)
		f.eventWord("reason", e.Reason)
		if len(e.Message) > maxEventNote {
			f.invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", maxEventNote))
		}
	}
	f.each(field.NewPath("namespace"), e.Namespace, validation.IsDNS1123Subdomain(e.Namespace))
}

func eventUpdate(f *findings, e, _ *corev1.Event) { event(f, e) }

func (f *findings) eventNamespace(about string, matches bool) {
	if !matches {
		f.invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace")
	}
}

func (f *findings) reporter(controller string) {
	at := field.NewPath("reportingController")
	f.notEmpty(at, controller)
	f.qualifiedName(at, controller)
}

func (f *findings) eventWord(name, value string) {
	f.notEmpty(field.NewPath(name), value)
	if len(value) > maxEventWord {
		f.invalid(field.NewPath(name), "", fmt.Sprintf("can have at most %v characters", maxEventWord))
	}
}

// newEvent judges an event of events.k8s.io/v1: strictly. Kubernetes names the
// fields as the core API does, and so do we.
func newEvent(f *findings, e *eventsv1.Event) {
	event(f, asCore(e))
	f.meta(&e.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	f.eventSeries(e.Series)
	if e.EventTime.IsZero() {
		f.required(field.NewPath("eventTime"), "")
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		f.invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type))
	}
	f.unset("firstTimestamp", e.DeprecatedFirstTimestamp.IsZero())
	f.unset("lastTimestamp", e.DeprecatedLastTimestamp.IsZero())
	f.unset("count", e.DeprecatedCount == 0)
	f.unset("source", e.DeprecatedSource == corev1.EventSource{})
}

func (f *findings) unset(name string, is bool) {
	if !is {
		f.invalid(field.NewPath(name), "", "needs to be unset")
	}
}

func (f *findings) eventSeries(s *eventsv1.EventSeries) {
	if s == nil {
		return
	}
	if s.Count < 2 {
		f.invalid(field.NewPath("series.count"), "", "should be at least 2")
	}
	if s.LastObservedTime.IsZero() {
		f.required(field.NewPath("series.lastObservedTime"), "")
	}
}

// newEventUpdate lets only the series and the metadata change.
func newEventUpdate(f *findings, e, old *eventsv1.Event) {
	event(f, asCore(e))
	f.metaUpdate(&e.ObjectMeta, &old.ObjectMeta)
	if !equality.Semantic.DeepEqual(e.Series, old.Series) {
		f.eventSeries(e.Series)
	}
	f.immutable(field.NewPath("involvedObject"), e.Regarding, old.Regarding)
	f.immutable(field.NewPath("reason"), e.Reason, old.Reason)
	f.immutable(field.NewPath("message"), e.Note, old.Note)
	f.immutable(field.NewPath("source"), e.DeprecatedSource, old.DeprecatedSource)
	f.immutable(field.NewPath("firstTimestamp"), e.DeprecatedFirstTimestamp, old.DeprecatedFirstTimestamp)
	f.immutable(field.NewPath("lastTimestamp"), e.DeprecatedLastTimestamp, old.DeprecatedLastTimestamp)
	f.immutable(field.NewPath("count"), e.DeprecatedCount, old.DeprecatedCount)
	f.immutable(field.NewPath("type"), e.Type, old.Type)
	f.immutable(field.NewPath("eventTime"), e.EventTime, old.EventTime)
	f.immutable(field.NewPath("action"), e.Action, old.Action)
	f.immutable(field.NewPath("related"), e.Related, old.Related)
	f.immutable(field.NewPath("reportingController"), e.ReportingController, old.ReportingController)
	f.immutable(field.NewPath("reportingInstance"), e.ReportingInstance, old.ReportingInstance)
}

// asCore has what event reads.
func asCore(e *eventsv1.Event) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Reason:              e.Reason,
		Message:             e.Note,
		EventTime:           e.EventTime,
		Action:              e.Action,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
	}
}
