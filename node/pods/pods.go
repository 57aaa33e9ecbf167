// Package pods runs the pods of a node. Each pod has one goroutine, its worker,
// which owns all that is known of the pod and asks a pure function, next, what
// to do: image, create, start, ready, running, terminated. What takes time is
// done beside it and comes back as a message, so a pod is never too busy to be
// deleted. It knows pods and the seams to runtime, network, volumes, logs and
// status; it never talks to the API server itself.
//
//	m, err := pods.New(pods.Config{…})
//	go m.Run(ctx)
//	m.Set(pod)    // a pod of this node was made or changed
//	m.Gone(pod)   // its object no longer exists
//	m.Synced()    // every pod that there is has been Set
package pods

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	goruntime "runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"copepod/node/downward"
	"copepod/node/logs"
	"copepod/node/mesh/vnet"
	"copepod/node/objects"
	"copepod/node/probe"
	"copepod/node/runtime"
	"copepod/node/status"
	"copepod/node/volume"
)

// Holder watches the objects that pods refer to. *objects.Store is one.
type Holder interface {
	Hold(holder types.UID, refs []objects.Ref)
}

// Volumes makes the volumes of pods. *volume.Manager is one.
type Volumes interface {
	Mount(ctx context.Context, src downward.Source) (volume.Mounted, error)
	Unmount(uid types.UID) error
	Keep(wanted func(uid string) bool) error
	PodDir(uid types.UID) string
}

// Prober asks containers how they are. *probe.Prober is one.
type Prober interface {
	Run(ctx context.Context, t probe.Target, spec *v1.Probe) (probe.Outcome, string)
	Get(ctx context.Context, t probe.Target, action *v1.HTTPGetAction) error
}

// Reporter takes the statuses of pods. *status.Writer is one.
type Reporter interface {
	Report(r status.Report)
	Forget(uid types.UID)
}

// Recorder takes events. *status.Events is one.
type Recorder interface {
	Event(about v1.ObjectReference, eventType, reason, message string)
}

// Config configures a Manager. Everything without a default must be given.
type Config struct {
	// Runtime is the runtime for a pod's runtimeClassName, "" being the default;
	// an error says which there are.
	Runtime  func(ctx context.Context, class string) (runtime.Runtime, error)
	Network  *vnet.Net
	CIDR     netip.Prefix // addresses of pods; Range changes it, and gives it where it is not valid
	Objects  Objects
	Holder   Holder
	Volumes  Volumes
	Prober   Prober
	Logs     *logs.Store
	Reporter Reporter
	Recorder Recorder

	HostIP        string
	ClusterDomain string // default cluster.local
	Allocatable   v1.ResourceList
	Services      func() []*v1.Service // for service environment variables; nil: none

	Starts int64         // programs that begin at once; default two for each processor
	Pulls  int64         // images pulled at once; default 5
	Probes int64         // probes asked at once; default 2048
	Grace  time.Duration // for pods when the node stops; default 2 s
	Log    *slog.Logger
	Meter  *Metrics // default: not registered anywhere
}

// Manager is the pods of one node. Its methods may be called at once.
type Manager struct {
	cfg       Config
	addresses *addresses
	starts    *semaphore.Weighted
	pulls     *semaphore.Weighted
	probes    *semaphore.Weighted
	flights   singleflight.Group // pulls of the same image

	mu      sync.Mutex // guards what follows
	run     context.Context
	synced  bool
	running sync.WaitGroup
	workers map[types.UID]*worker
	names   map[types.NamespacedName]*worker // who has the name
	heirs   map[types.NamespacedName]*v1.Pod // who waits for it
	ledger  ledger
}

// New makes a manager without pods.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Runtime == nil, cfg.Network == nil, cfg.Objects == nil, cfg.Holder == nil, cfg.Volumes == nil,
		cfg.Prober == nil, cfg.Logs == nil, cfg.Reporter == nil, cfg.Recorder == nil:
		return nil, errors.New("pods: Runtime, Network, Objects, Holder, Volumes, Prober, Logs, Reporter and Recorder must be given")
	}
	cfg.ClusterDomain = cmp.Or(cfg.ClusterDomain, "cluster.local")
	cfg.Starts = cmp.Or(cfg.Starts, int64(2*goruntime.GOMAXPROCS(0)))
	cfg.Pulls = cmp.Or(cfg.Pulls, 5)
	cfg.Probes = cmp.Or(cfg.Probes, 2048)
	cfg.Grace = cmp.Or(cfg.Grace, 2*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Meter = cmp.Or(cfg.Meter, NewMetrics(nil))
	if cfg.Services == nil {
		cfg.Services = func() []*v1.Service { return nil }
	}
	a, err := newAddresses(cfg.CIDR)
	if err != nil {
		return nil, err
	}
	return &Manager{
		cfg: cfg, addresses: a,
		starts:  semaphore.NewWeighted(cfg.Starts),
		pulls:   semaphore.NewWeighted(cfg.Pulls),
		probes:  semaphore.NewWeighted(cfg.Probes),
		workers: map[types.UID]*worker{},
		names:   map[types.NamespacedName]*worker{},
		heirs:   map[types.NamespacedName]*v1.Pod{},
		ledger:  newLedger(),
	}, nil
}

// Range changes the addresses that new pods get.
func (m *Manager) Range(cidr netip.Prefix) error { return m.addresses.reset(cidr) }

// Run lets pods run until ctx ends; then it stops them all, politely and
// briefly, and says nothing of that to the API: they are to run again when the
// node comes back.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.run = ctx
	m.launchAll()
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock() // nobody is launched after this
	m.run = nil
	for _, w := range m.workers {
		w.post(func(s *state) { s.leaving, s.grace = true, m.cfg.Grace })
	}
	m.mu.Unlock()
	m.running.Wait()
	return nil
}

// launchAll starts the workers that wait for Run and Synced. The caller holds
// m.mu.
func (m *Manager) launchAll() {
	for _, w := range m.workers {
		if !w.launched {
			m.launch(w)
		}
	}
}

// launch starts a worker, unless it has to wait. The caller holds m.mu.
func (m *Manager) launch(w *worker) {
	if m.run == nil || !m.synced {
		return
	}
	w.launched = true
	ctx := context.WithoutCancel(m.run) // a worker ends by leaving, not in mid-step
	m.running.Go(func() {
		w.run(ctx)
		m.ended(w)
	})
}

// Set takes a pod of this node, new or changed. Do not change it afterwards.
func (m *Manager) Set(pod *v1.Pod) {
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.workers[pod.UID]; w != nil {
		w.update(pod)
		return
	}
	if w := m.names[name]; w != nil {
		// The name has a new owner, so the pod that had it is gone. Two pods of
		// one name never run at once: the new one waits for the end of the old.
		w.post(func(s *state) { s.gone = true })
		m.heirs[name] = pod
		return
	}
	m.add(name, pod)
}

// add takes on a pod. The caller holds m.mu.
func (m *Manager) add(name types.NamespacedName, pod *v1.Pod) {
	w := newWorker(m, pod)
	m.workers[pod.UID], m.names[name] = w, w
	if !w.state.done() {
		// What ran here before was admitted then.
		if pod.Status.StartTime == nil {
			if f := m.ledger.admit(pod, m.cfg.Allocatable); f != nil {
				f.at = time.Now()
				w.state.verdict = f
				m.event(w.ref(nil), v1.EventTypeWarning, f.reason, f.message)
			}
		}
		if w.state.verdict == nil {
			m.ledger.enter(w, pod)
		}
		// A pod that had an address here gets it before others can.
		if ip := w.state.sandbox.ip; ip.IsValid() {
			w.address, _ = m.addresses.take(ip)
		}
	}
	m.launch(w)
}

// Gone takes that the object of a pod no longer exists.
func (m *Manager) Gone(pod *v1.Pod) {
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	m.mu.Lock()
	defer m.mu.Unlock()
	if heir := m.heirs[name]; heir != nil && heir.UID == pod.UID {
		delete(m.heirs, name)
	}
	if w := m.workers[pod.UID]; w != nil {
		w.post(func(s *state) { s.gone = true })
	}
}

// Changed takes that an object which a pod refers to has changed.
func (m *Manager) Changed(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.workers[uid]; w != nil {
		w.post((*state).objectsChanged)
	}
}

// Launch lets the pods start that are known, though there may be more: nothing on
// disk is left over yet.
func (m *Manager) Launch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = true
	m.launchAll()
}

// Synced takes that all pods of this node are known: they may start, and what
// is on disk of others is left over and removed.
func (m *Manager) Synced() {
	m.Launch()
	wanted := func(uid string) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.workers[types.UID(uid)] != nil
	}
	if err := errors.Join(m.cfg.Volumes.Keep(wanted), m.cfg.Logs.Keep(wanted)); err != nil {
		m.cfg.Log.Warn("leftovers of pods not removed", "err", err)
	}
}

// settled takes that a pod has ended for good: what it asked for is free.
func (m *Manager) settled(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.leave(w)
}

// ended takes that a worker has returned: its pod is gone, or the node stops.
func (m *Manager) ended(w *worker) {
	pod := w.state.pod
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if w.state.gone {
		m.cfg.Reporter.Forget(pod.UID)
		if err := errors.Join(m.cfg.Volumes.Unmount(pod.UID), m.cfg.Logs.Remove(w.logs())); err != nil {
			m.cfg.Log.Warn("leftovers of a pod not removed", "pod", name.String(), "err", err)
		}
	}
	m.cfg.Meter.phase(w.reported.Phase, "")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.leave(w)
	if m.run == nil {
		return // stopping: everybody keeps what they have on disk
	}
	delete(m.workers, pod.UID)
	if m.names[name] == w {
		delete(m.names, name)
	}
	if heir := m.heirs[name]; heir != nil {
		delete(m.heirs, name)
		m.add(name, heir)
	}
}

// event records an event.
func (m *Manager) event(about v1.ObjectReference, eventType, reason, message string) {
	m.cfg.Recorder.Event(about, eventType, reason, message)
}

// Pods are all pods of this node with their statuses as they were last reported.
func (m *Manager) Pods() []*v1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*v1.Pod, 0, len(m.workers))
	for _, w := range m.workers {
		out = append(out, w.snapshot())
	}
	return out
}
