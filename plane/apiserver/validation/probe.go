package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// lifecycle judges what a container that keeps running may have: hooks, probes
// and a stop signal.
func (f *findings) lifecycle(at *field.Path, c *corev1.Container, pod *podContext) {
	grace := pod.spec.TerminationGracePeriodSeconds
	if l := c.Lifecycle; l != nil {
		at := at.Child("lifecycle")
		f.hook(at.Child("postStart"), l.PostStart, grace)
		f.hook(at.Child("preStop"), l.PreStop, grace)
		if l.StopSignal != nil && pod.spec.OS == nil {
			f.forbidden(at.Child("stopSignal"), "may not be set for containers with empty `spec.os.name`")
		}
	}
	f.probe(at.Child("livenessProbe"), c.LivenessProbe)
	f.mustBeOne(at.Child("livenessProbe"), c.LivenessProbe)
	f.probe(at.Child("readinessProbe"), c.ReadinessProbe)
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		f.invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), p.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
	}
	f.probe(at.Child("startupProbe"), c.StartupProbe)
	f.mustBeOne(at.Child("startupProbe"), c.StartupProbe)
}

// mustBeOne: a container is alive, or has started, as soon as it says so once.
func (f *findings) mustBeOne(at *field.Path, p *corev1.Probe) {
	if p != nil && p.SuccessThreshold != 1 {
		f.invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")
	}
}

func (f *findings) probe(at *field.Path, p *corev1.Probe) {
	if p == nil {
		return
	}
	types := onlyOne{what: "handler type"}
	f.action(&types, at, p.Exec, p.HTTPGet, p.TCPSocket)
	if p.GRPC != nil && types.first(f, at.Child("grpc")) {
		f.portNumOrName(at.Child("grpc", "port"), intstr.FromInt32(p.GRPC.Port))
	}
	f.someHandler(at, types)
	f.nonNegative(at.Child("initialDelaySeconds"), int64(p.InitialDelaySeconds))
	f.nonNegative(at.Child("timeoutSeconds"), int64(p.TimeoutSeconds))
	f.nonNegative(at.Child("periodSeconds"), int64(p.PeriodSeconds))
	f.nonNegative(at.Child("successThreshold"), int64(p.SuccessThreshold))
	f.nonNegative(at.Child("failureThreshold"), int64(p.FailureThreshold))
	if s := p.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		f.invalid(at.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0")
	}
}

func (f *findings) hook(at *field.Path, h *corev1.LifecycleHandler, grace *int64) {
	if h == nil {
		return
	}
	types := onlyOne{what: "handler type"}
	f.action(&types, at, h.Exec, h.HTTPGet, h.TCPSocket)
	if h.Sleep != nil && types.first(f, at.Child("sleep")) {
		if s := h.Sleep.Seconds; grace != nil && (s < 0 || s > *grace) {
			f.invalid(at.Child("sleep"), s, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))
		}
	}
	f.someHandler(at, types)
}

func (f *findings) someHandler(at *field.Path, types onlyOne) {
	if types.n == 0 {
		f.required(at, "must specify a handler type")
	}
}

// action judges what probes and hooks can both do.
func (f *findings) action(types *onlyOne, at *field.Path, exec *corev1.ExecAction, http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
	if exec != nil && types.first(f, at.Child("exec")) && len(exec.Command) == 0 {
		f.required(at.Child("exec", "command"), "")
	}
	if http != nil && types.first(f, at.Child("httpGet")) {
		at := at.Child("httpGet")
		f.notEmpty(at.Child("path"), http.Path)
		f.portNumOrName(at.Child("port"), http.Port)
		unless(f, at.Child("scheme"), http.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
		for _, h := range http.HTTPHeaders {
			f.each(at.Child("httpHeaders"), h.Name, validation.IsHTTPHeaderName(h.Name))
		}
	}
	if tcp != nil && types.first(f, at.Child("tcpSocket")) {
		f.portNumOrName(at.Child("tcpSocket", "port"), tcp.Port)
	}
}

func (f *findings) portNumOrName(at *field.Path, port intstr.IntOrString) {
	switch port.Type {
	case intstr.Int:
		f.each(at, port.IntValue(), validation.IsValidPortNum(port.IntValue()))
	case intstr.String:
		f.each(at, port.StrVal, validation.IsValidPortName(port.StrVal))
	default:
		f.add(field.InternalError(at, fmt.Errorf("unknown type: %v", port.Type)))
	}
}
