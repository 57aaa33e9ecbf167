package pods

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"copepod/node/probe"
)

// Metrics counts what pods do.
type Metrics struct {
	phases   *prometheus.GaugeVec
	starts   prometheus.Counter
	restarts prometheus.Counter
	latency  prometheus.Histogram
	toReady  prometheus.Histogram
	pulls    *prometheus.CounterVec
	asked    *prometheus.CounterVec
}

// NewMetrics makes the counters, and registers them unless r is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	m := &Metrics{
		phases:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "copepod_node_pods", Help: "Pods on this node, by phase."}, []string{"phase"}),
		starts:   prometheus.NewCounter(prometheus.CounterOpts{Name: "copepod_node_container_starts_total", Help: "Containers started."}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{Name: "copepod_node_container_restarts_total", Help: "Containers started again."}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_node_container_start_seconds", Help: "Time from the making of a pod to the start of a container.", Buckets: buckets,
		}),
		toReady: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_node_pod_ready_seconds", Help: "Time from when this node took a pod on until it was ready first.", Buckets: buckets,
		}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "copepod_node_image_pulls_total", Help: "Images pulled, by result."}, []string{"result"}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "copepod_node_probes_total", Help: "Probes asked, by kind and result."}, []string{"kind", "result"}),
	}
	if r != nil {
		r.MustRegister(m.phases, m.starts, m.restarts, m.latency, m.toReady, m.pulls, m.asked)
	}
	return m
}

// phase moves a pod from one phase to another; "" is none.
func (m *Metrics) phase(from, to v1.PodPhase) {
	if from == to {
		return
	}
	if from != "" {
		m.phases.WithLabelValues(string(from)).Dec()
	}
	if to != "" {
		m.phases.WithLabelValues(string(to)).Inc()
	}
}

func (m *Metrics) started(created, at time.Time) {
	m.starts.Inc()
	if !created.IsZero() {
		m.latency.Observe(max(at.Sub(created).Seconds(), 0))
	}
}

// ready observes a pod that has become ready for the first time.
func (m *Metrics) ready(before, now *v1.PodStatus, since time.Time) {
	if !isReady(before) && isReady(now) {
		m.toReady.Observe(max(time.Since(since).Seconds(), 0))
	}
}

func isReady(s *v1.PodStatus) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == v1.PodReady {
			return s.Conditions[i].Status == v1.ConditionTrue
		}
	}
	return false
}

func (m *Metrics) probe(k probe.Kind, o probe.Outcome) {
	m.asked.WithLabelValues(lower(k), o.String()).Inc()
}
