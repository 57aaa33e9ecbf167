package local

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// metrics count what comes in without HTTP; what comes over HTTP the library
// counts.
type metrics struct {
	writes *prometheus.CounterVec
	took   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_api_inprocess_writes_total",
			Help: "Objects written in-process, by verb and outcome: ok, conflict or refused.",
		}, []string{"verb", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "copepod_api_inprocess_call_seconds",
			Help:    "Time of in-process calls, of whatever number of objects.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 9),
		}, []string{"verb"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.writes, m.took} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// observe notes one call with the outcomes of its objects.
func (m *metrics) observe(verb string, start time.Time, errs []error) {
	var ok, conflict, refused float64
	for _, err := range errs {
		switch {
		case err == nil:
			ok++
		case apierrors.IsConflict(err):
			conflict++
		default:
			refused++
		}
	}
	for outcome, n := range map[string]float64{"ok": ok, "conflict": conflict, "refused": refused} {
		if n > 0 {
			m.writes.WithLabelValues(verb, outcome).Add(n)
		}
	}
	m.took.WithLabelValues(verb).Observe(time.Since(start).Seconds())
}
