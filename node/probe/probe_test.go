package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"copepod/node/mesh/vnet"
	"copepod/node/probe"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTrackerFollowsTheThresholds(t *testing.T) {
	spec := &v1.Probe{InitialDelaySeconds: 5, PeriodSeconds: 2, SuccessThreshold: 2, FailureThreshold: 3}
	const s, f, u = probe.Success, probe.Failure, probe.Unknown
	for _, row := range []struct {
		name     string
		kind     probe.Kind
		outcomes []probe.Outcome
		ok, dead bool
	}{
		{"readiness starts unready", probe.Readiness, nil, false, false},
		{"one success of two is not enough", probe.Readiness, []probe.Outcome{s}, false, false},
		{"two successes make ready", probe.Readiness, []probe.Outcome{s, s}, true, false},
		{"a failure between restarts the count", probe.Readiness, []probe.Outcome{s, f, s}, false, false},
		{"two failures do not unmake ready", probe.Readiness, []probe.Outcome{s, s, f, f}, true, false},
		{"three failures unmake ready, for now", probe.Readiness, []probe.Outcome{s, s, f, f, f}, false, false},
		{"an unknown outcome neither counts nor interrupts", probe.Readiness, []probe.Outcome{s, u, s}, true, false},
		{"liveness starts alive", probe.Liveness, []probe.Outcome{f, f}, true, false},
		{"three failures are death", probe.Liveness, []probe.Outcome{f, f, f}, false, true},
		{"the dead stay dead", probe.Liveness, []probe.Outcome{f, f, f, s, s}, false, true},
		{"startup fails for good", probe.Startup, []probe.Outcome{f, f, f}, false, true},
		{"startup succeeds", probe.Startup, []probe.Outcome{f, s, s}, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr := probe.NewTracker(row.kind, spec, start)
			if got, want := tr.Due, start.Add(5*time.Second); !got.Equal(want) {
				t.Errorf("got first probe at %v, want %v", got, want)
			}
			now := start
			for _, o := range row.outcomes {
				now = now.Add(time.Second)
				tr = tr.Observe(o, now)
			}
			if tr.OK != row.ok || tr.Dead != row.dead {
				t.Errorf("got ok=%v dead=%v, want ok=%v dead=%v", tr.OK, tr.Dead, row.ok, row.dead)
			}
		})
	}
}

func TestTrackerAsksOncePerPeriodAndStartupOnlyUntilItPassed(t *testing.T) {
	spec := &v1.Probe{PeriodSeconds: 7}
	tr := probe.NewTracker(probe.Startup, spec, start).Observe(probe.Failure, start)
	if got, want := tr.Due, start.Add(7*time.Second); !got.Equal(want) {
		t.Errorf("got next probe at %v, want %v", got, want)
	}
	if tr = tr.Observe(probe.Success, start); !tr.Due.IsZero() {
		t.Errorf("got a probe due at %v after startup, want none", tr.Due)
	}
	if tr := probe.NewTracker(probe.Readiness, nil, start); !tr.OK || !tr.Due.IsZero() {
		t.Errorf("got %+v without a probe, want ok and never due", tr)
	}
}

// pod makes a pod that serves HTTP on port 8080.
func pod(t *testing.T, h http.HandlerFunc) (*probe.Prober, probe.Target) {
	t.Helper()
	n := vnet.New(vnet.Config{})
	ip := netip.MustParseAddr("10.42.0.2")
	stack, err := n.Attach(ip)
	if err != nil {
		t.Fatal(err)
	}
	l, err := stack.Listen(t.Context(), "tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); _ = stack.Close(); <-done })
	c := &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: 8080}}}
	return probe.New(n), probe.Target{IP: ip, Container: c}
}

func get(path string, port intstr.IntOrString, headers ...v1.HTTPHeader) *v1.Probe {
	return &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: port, HTTPHeaders: headers}}}
}

func TestHTTPProbesReadTheAnswerAsKubernetesDoes(t *testing.T) {
	p, target := pod(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
				w.WriteHeader(http.StatusTeapot)
			}
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		case "/query":
			if r.URL.RawQuery != "a=b" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/header":
			if r.Header.Get("X-Who") != "me" || r.Host != "example.test" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/moved":
			http.Redirect(w, r, "/broken", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	port := intstr.FromInt32(8080)
	for _, row := range []struct {
		name    string
		spec    *v1.Probe
		want    probe.Outcome
		message string
	}{
		{"200 is success", get("/ok", port), probe.Success, ""},
		{"a port by name", get("ok", intstr.FromString("web")), probe.Success, ""},
		{"an unknown port name", get("/ok", intstr.FromString("api")), probe.Unknown, `couldn't find port: "api"`},
		{"503 is failure", get("/broken", port), probe.Failure, "HTTP probe failed with statuscode: 503"},
		{"a redirect within is followed", get("/moved", port), probe.Failure, "HTTP probe failed with statuscode: 503"},
		{"a redirect away is an answer", get("/away", port), probe.Success, ""},
		{"an endless redirect is failure", get("/loop", port), probe.Failure, "stopped after 10 redirects"},
		{"the query is kept", get("/query?a=b", port), probe.Success, ""},
		{"headers are sent", get("/header", port, v1.HTTPHeader{Name: "X-Who", Value: "me"}, v1.HTTPHeader{Name: "host", Value: "example.test"}), probe.Success, ""},
		{"nobody listens", get("/", intstr.FromInt32(9)), probe.Failure, "connection refused"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, message := p.Run(t.Context(), target, row.spec)
			if got != row.want || !strings.Contains(message, row.message) || (row.message == "" && message != "") {
				t.Errorf("got %v %q, want %v %q", got, message, row.want, row.message)
			}
		})
	}
}

func TestAProbeReachesNothingButItsPod(t *testing.T) {
	p, target := pod(t, func(http.ResponseWriter, *http.Request) {})
	spec := get("/", intstr.FromInt32(8080))
	spec.HTTPGet.Host = "169.254.169.254"
	if got, message := p.Run(t.Context(), target, spec); got != probe.Unknown || !strings.Contains(message, "probes reach only the pod itself") {
		t.Errorf("got %v %q, want unknown and the reason", got, message)
	}
	spec.HTTPGet.Host = "127.0.0.1"
	if got, message := p.Run(t.Context(), target, spec); got != probe.Success {
		t.Errorf("got %v %q for the pod's loopback, want success", got, message)
	}
}

func TestTCPProbesConnect(t *testing.T) {
	p, target := pod(t, func(http.ResponseWriter, *http.Request) {})
	tcp := func(port int32) *v1.Probe {
		return &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(port)}}}
	}
	if got, message := p.Run(t.Context(), target, tcp(8080)); got != probe.Success {
		t.Errorf("got %v %q, want success", got, message)
	}
	if got, _ := p.Run(t.Context(), target, tcp(8081)); got != probe.Failure {
		t.Errorf("got %v for a closed port, want failure", got)
	}
}

func TestASilentServerFailsAfterTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		p, target := pod(t, func(http.ResponseWriter, *http.Request) { <-block })
		spec := get("/", intstr.FromInt32(8080))
		spec.TimeoutSeconds = 3
		begin := time.Now()
		got, _ := p.Run(t.Context(), target, spec)
		close(block)
		if took := time.Since(begin); got != probe.Failure || took != 3*time.Second {
			t.Errorf("got %v after %v, want failure after 3s", got, took)
		}
	})
}

type shell struct{}

func (shell) Exec(ctx context.Context, argv []string, out io.Writer) (int, error) {
	switch argv[0] {
	case "no":
		_, _ = io.WriteString(out, "not today")
		return 1, nil
	case "hang":
		<-ctx.Done()
		return 0, ctx.Err()
	case "gone":
		return 0, errors.New("container is gone")
	}
	return 0, nil
}

func TestExecProbesRunWhereTheRuntimeCan(t *testing.T) {
	p := probe.New(vnet.New(vnet.Config{}))
	for _, row := range []struct {
		command string
		exec    probe.Execer
		want    probe.Outcome
		message string
	}{
		{"yes", shell{}, probe.Success, ""},
		{"no", shell{}, probe.Failure, "not today"},
		{"gone", shell{}, probe.Unknown, "container is gone"},
		{"yes", nil, probe.Unknown, "exec probes: not supported for WebAssembly containers; use httpGet or tcpSocket"},
	} {
		spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{row.command}}}}
		got, message := p.Run(t.Context(), probe.Target{Exec: row.exec}, spec)
		if got != row.want || message != row.message {
			t.Errorf("%s: got %v %q, want %v %q", row.command, got, message, row.want, row.message)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		spec := &v1.Probe{TimeoutSeconds: 2, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"hang"}}}}
		if got, message := p.Run(t.Context(), probe.Target{Exec: shell{}}, spec); got != probe.Failure || !strings.Contains(message, "timed out after 2s") {
			t.Errorf("got %v %q, want failure and the timeout", got, message)
		}
	})
}

func ExampleTracker() {
	spec := &v1.Probe{PeriodSeconds: 5, FailureThreshold: 2}
	t := probe.NewTracker(probe.Liveness, spec, start)
	t = t.Observe(probe.Failure, start)
	fmt.Println(t.OK, t.Dead, t.Due.Sub(start))
	t = t.Observe(probe.Failure, t.Due)
	fmt.Println(t.OK, t.Dead)
	// Output:
	// true false 5s
	// false true
}
