package scheduler

import "github.com/prometheus/client_golang/prometheus"

// metrics outlives the terms of leadership.
type metrics struct {
	placed  *prometheus.CounterVec
	pending *prometheus.GaugeVec
	place   prometheus.Histogram
	bind    prometheus.Histogram
	dropped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 9)
	m := &metrics{
		placed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_scheduler_pods_total", Help: "Attempts to place a pod, by result.",
		}, []string{"result"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "copepod_scheduler_pending_pods", Help: "Pods without a node: about to be tried, or unschedulable for now.",
		}, []string{"queue"}),
		place: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_scheduler_place_seconds", Help: "Duration of placing one batch.", Buckets: buckets,
		}),
		bind: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_scheduler_bind_seconds", Help: "Duration of binding one batch.", Buckets: buckets,
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "copepod_scheduler_events_dropped_total", Help: "Events that were not recorded because too many waited.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.placed, m.pending, m.place, m.bind, m.dropped} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
