package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what loops do, by the label controller. One Metrics outlives
// the loops that share it, so that loops can start again with each leadership.
type Metrics struct {
	depth     *prometheus.GaugeVec
	reconcile *prometheus.HistogramVec
	errors    *prometheus.CounterVec
}

// NewMetrics registers with reg; a nil reg keeps the figures private.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		depth: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "copepod_controller_queue_depth", Help: "Keys that wait to be reconciled.",
		}, []string{"controller"}),
		reconcile: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "copepod_controller_reconcile_seconds", Help: "Duration of one reconcile.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"controller"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_controller_errors_total", Help: "Reconciles that failed and will be tried again.",
		}, []string{"controller"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.depth, m.reconcile, m.errors} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// meter is Metrics of one loop.
type meter struct {
	depth func(int)
	ran   func(time.Duration, error)
}

func (m *Metrics) of(name string) meter {
	if m == nil {
		return meter{depth: func(int) {}, ran: func(time.Duration, error) {}}
	}
	depth, took, errs := m.depth.WithLabelValues(name), m.reconcile.WithLabelValues(name), m.errors.WithLabelValues(name)
	depth.Set(0)
	return meter{
		depth: func(n int) { depth.Set(float64(n)) },
		ran: func(d time.Duration, err error) {
			took.Observe(d.Seconds())
			if err != nil {
				errs.Inc()
			}
		},
	}
}
