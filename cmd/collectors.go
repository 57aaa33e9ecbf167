package cmd

import (
	"github.com/prometheus/client_golang/prometheus"

	"copepod/node/mesh/link"
	"copepod/node/mesh/proxy"
	"copepod/wasmrt"
)

// wasmCollector shows the counters of the wasm host as metrics.
type wasmCollector struct{ host *wasmrt.Host }

var (
	wasmInstances = prometheus.NewDesc("copepod_wasm_instances", "Instances that run now.", nil, nil)
	wasmModules   = prometheus.NewDesc("copepod_wasm_modules", "Compiled modules that are held now.", nil, nil)
	wasmMemory    = prometheus.NewDesc("copepod_wasm_memory_bytes", "Linear memory of all running instances.", nil, nil)
	wasmStarted   = prometheus.NewDesc("copepod_wasm_started_total", "Instances started.", nil, nil)
	wasmExits     = prometheus.NewDesc("copepod_wasm_exits_total", "Instances that ended, by reason.", []string{"reason"}, nil)
	wasmCompiled  = prometheus.NewDesc("copepod_wasm_compiled_total", "Modules made ready, by where their code came from.", []string{"from"}, nil)
	wasmRefused   = prometheus.NewDesc("copepod_wasm_refused_total", "Modules refused.", nil, nil)
	wasmStopped   = prometheus.NewDesc("copepod_wasm_compile_stopped_total", "Compilations that ran into a limit.", nil, nil)
	wasmRewound   = prometheus.NewDesc("copepod_wasm_rewinds_total", "Requests after which an instance was put back to its first state.", nil, nil)
	wasmFiles     = prometheus.NewDesc("copepod_wasm_descriptors", "File descriptors that guests hold, as what they can become.", nil, nil)
	wasmCompiling = prometheus.NewDesc("copepod_wasm_compile_seconds_total", "Time spent compiling or loading modules.", nil, nil)
)

// Describe implements prometheus.Collector.
func (wasmCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{wasmInstances, wasmModules, wasmMemory, wasmStarted, wasmExits, wasmCompiled, wasmRefused, wasmStopped, wasmRewound, wasmFiles, wasmCompiling} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c wasmCollector) Collect(out chan<- prometheus.Metric) {
	s := c.host.Stats()
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(wasmInstances, float64(s.Instances))
	gauge(wasmModules, float64(s.Modules))
	gauge(wasmMemory, float64(s.MemoryBytes))
	count(wasmStarted, float64(s.Started))
	for reason, n := range map[string]uint64{"Completed": s.Exits.Completed, "Error": s.Exits.Error, "OOMKilled": s.Exits.OOMKilled, "Killed": s.Exits.Killed, "Trap": s.Exits.Trap} {
		count(wasmExits, float64(n), reason)
	}
	count(wasmCompiled, float64(s.Compiled), "compiler")
	count(wasmCompiled, float64(s.CacheHits), "cache")
	count(wasmRefused, float64(s.Refused))
	count(wasmStopped, float64(s.Stopped))
	count(wasmRewound, float64(s.Rewound))
	gauge(wasmFiles, float64(s.Descriptors))
	count(wasmCompiling, s.CompileTime.Seconds())
}

// proxyCollector shows what came in through node ports.
type proxyCollector struct{ way *proxy.Proxy }

var (
	proxyOpen   = prometheus.NewDesc("copepod_proxy_connections", "Node port connections that are open now.", nil, nil)
	proxyTotal  = prometheus.NewDesc("copepod_proxy_connections_total", "Node port connections so far.", nil, nil)
	proxyFailed = prometheus.NewDesc("copepod_proxy_failed_total", "Node port connections that no endpoint answered.", nil, nil)
)

// Describe implements prometheus.Collector.
func (proxyCollector) Describe(out chan<- *prometheus.Desc) {
	out <- proxyOpen
	out <- proxyTotal
	out <- proxyFailed
}

// Collect implements prometheus.Collector.
func (c proxyCollector) Collect(out chan<- prometheus.Metric) {
	s := c.way.Stats()
	out <- prometheus.MustNewConstMetric(proxyOpen, prometheus.GaugeValue, float64(s.Open))
	out <- prometheus.MustNewConstMetric(proxyTotal, prometheus.CounterValue, float64(s.Total))
	out <- prometheus.MustNewConstMetric(proxyFailed, prometheus.CounterValue, float64(s.Failed))
}

// linkCollector shows what the link to other nodes carries, and whom it refused.
type linkCollector struct{ link *link.Link }

var (
	linkPeers   = prometheus.NewDesc("copepod_mesh_peers", "Nodes that the mesh is connected to now.", nil, nil)
	linkStreams = prometheus.NewDesc("copepod_mesh_streams", "Connections of pods between nodes that are open now.", nil, nil)
	linkRefused = prometheus.NewDesc("copepod_mesh_refused_total", "Connections of pods of other nodes, and of callers, that were refused.", nil, nil)
	linkHostile = prometheus.NewDesc("copepod_mesh_hostile_total", "Callers without a right to call, and requests that no honest node makes.", nil, nil)
)

// Describe implements prometheus.Collector.
func (linkCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{linkPeers, linkStreams, linkRefused, linkHostile} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c linkCollector) Collect(out chan<- prometheus.Metric) {
	s := c.link.Stats()
	out <- prometheus.MustNewConstMetric(linkPeers, prometheus.GaugeValue, float64(s.Peers))
	out <- prometheus.MustNewConstMetric(linkStreams, prometheus.GaugeValue, float64(s.Streams))
	out <- prometheus.MustNewConstMetric(linkRefused, prometheus.CounterValue, float64(s.Refused))
	out <- prometheus.MustNewConstMetric(linkHostile, prometheus.CounterValue, float64(s.Hostile))
}
