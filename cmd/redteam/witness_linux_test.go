package redteam

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"copepod/plane"
	"copepod/plane/auth/certs"
	"copepod/plane/store"
)

// eventually waits for a condition; last is what it said to explain itself.
func eventually(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	last := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var done bool
		if done, last = ok(); done {
			return
		}
	}
	t.Fatalf("never: %s; at last: %s", what, last)
}

// settled waits until all nodes are ready and n2 holds the store.
func (c *cluster) settled() error {
	var why string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		state, err := c.state(context.Background())
		if err == nil && len(state.nodes) == 3 && len(state.members) == 2 && state.ready {
			return nil
		}
		why = fmt.Sprintf("%+v, %v", state, err)
	}
	return fmt.Errorf("does not settle: %s", why)
}

// state is what an attack must not change.
type state struct {
	nodes   map[string]types.UID
	labels  map[string]string // of nodes: those that steer
	members []string          // of Raft, with their part
	ready   bool
	cidrs   bool
}

func (c *cluster) state(ctx context.Context) (state, error) {
	s := state{nodes: map[string]types.UID{}, labels: map[string]string{}, ready: true, cidrs: true}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		s.nodes[n.Name] = n.UID
		_, plane := n.Labels["node-role.kubernetes.io/control-plane"]
		s.labels[n.Name] = fmt.Sprint(plane, n.Annotations["copepod.dev/raft"])
		s.cidrs = s.cidrs && n.Spec.PodCIDR != ""
		s.ready = s.ready && len(n.Spec.Taints) == 0 && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	}
	status, err := c.status(ctx)
	for _, m := range status.Members {
		s.members = append(s.members, fmt.Sprint(m.ID, m.Voter))
	}
	slices.Sort(s.members)
	s.ready = s.ready && s.cidrs && s.labels["n1"] == "truevoter" && s.labels["n2"] == "truenonvoter"
	return s, err
}

func (c *cluster) status(ctx context.Context) (store.Status, error) {
	var status store.Status
	data, err := c.client.RESTClient().Get().AbsPath(plane.StatusPath).DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(data, &status)
	}
	return status, err
}

// A witness is a legitimate client: it writes and reads through every machine,
// over a new connection each time, for as long as the test runs.
type witness struct {
	before state
	served [3]atomic.Int64 // by machine
	last   [3]atomic.Pointer[string]
}

// newWitness starts one. When the test ends, the cluster must be as it was.
func newWitness(t *testing.T) *witness {
	t.Helper()
	before, err := victim.state(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{before: before}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, m := range victim.machines() {
		name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + "-" + m.name
		wg.Go(func() { w.use(ctx, i, m, name) })
	}
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	w.goesOn(t)
	return w
}

func (w *witness) use(ctx context.Context, i int, m *machine, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := w.once(ctx, m, name, strconv.Itoa(n)); err != nil {
			text := err.Error()
			w.last[i].Store(&text)
		} else {
			w.served[i].Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(25 * time.Millisecond): // others need the processor too
		}
	}
}

func (w *witness) once(ctx context.Context, m *machine, name, value string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := victim.at(m)
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	cfg.TLSClientConfig = rest.TLSClientConfig{}
	client, err := kubernetes.NewForConfigAndClient(cfg, &http.Client{Transport: transport})
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps("default")
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"n": value}}
	if _, err = maps.Update(ctx, obj, metav1.UpdateOptions{}); err != nil {
		if _, err = maps.Create(ctx, obj, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	got, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err == nil && got.Data["n"] != value {
		err = fmt.Errorf("read %q after writing %q", got.Data["n"], value)
	}
	return err
}

// goesOn waits until every machine has served the witness again.
func (w *witness) goesOn(t *testing.T) {
	t.Helper()
	var from [3]int64
	for i := range from {
		from[i] = w.served[i].Load()
	}
	eventually(t, "a legitimate client is served by every machine", func() (bool, string) {
		for i := range from {
			if w.served[i].Load() < from[i]+2 {
				why := "nothing"
				if p := w.last[i].Load(); p != nil {
					why = *p
				}
				return false, fmt.Sprintf("machine %d: %s", i+1, why)
			}
		}
		return true, ""
	})
}

// unharmed waits until the cluster is as it was before the attack.
func (w *witness) unharmed(t *testing.T) {
	t.Helper()
	w.goesOn(t)
	eventually(t, "the cluster is as it was", func() (bool, string) {
		now, err := victim.state(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return now.ready && fmt.Sprint(now) == fmt.Sprint(w.before), fmt.Sprintf("%+v, was %+v", now, w.before)
	})
}

// node asks a machine's node server, under a certificate.
func (m *machine) node(ctx context.Context, pair *certs.Pair, method, path string) (int, string, error) {
	cfg := &tls.Config{RootCAs: victim.ca.Pool(), ServerName: m.addr.String()}
	if pair != nil {
		cert, err := pair.TLS()
		if err != nil {
			return 0, "", err
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+m.at(nodePort)+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric adds up what a machine shows under a name with these labels.
func (m *machine) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	admin := certs.Pair{CertPEM: victim.admin.CertData, KeyPEM: victim.admin.KeyData}
	var text string
	eventually(t, "metrics of "+m.name, func() (bool, string) {
		code, body, err := m.node(t.Context(), &admin, http.MethodGet, "/metrics")
		text = body
		return err == nil && code == http.StatusOK, fmt.Sprint(code, err)
	})
	return total(t, text, name, labels...)
}

// forbidden is how many requests the API of a plane refused, to whomever: the
// authorizers' and the admission's.
func (m *machine) forbidden(t *testing.T) float64 {
	t.Helper()
	text, err := clientOf(t, victim.at(m)).RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return total(t, string(text), "authorization_attempts_total", `result="no-opinion"`) + total(t, string(text), "apiserver_request_total", `code="403"`)
}

func total(t *testing.T, text, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// counts waits until what a metric shows has grown by at least n since from.
func (m *machine) counts(t *testing.T, from, n float64, name string, labels ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s counts %v more of %s%v", m.name, n, name, labels), func() (bool, string) {
		now := m.metric(t, name, labels...)
		return now >= from+n, fmt.Sprintf("from %v to %v", from, now)
	})
}

// logged waits for a line of the machine's log that has all the words.
func (m *machine) logged(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log of %s has %q", m.name, words), func() (bool, string) {
		text, err := os.ReadFile(filepath.Join(m.dir, "logs", "copepod.log"))
		if err != nil {
			return false, err.Error()
		}
		for line := range strings.Lines(string(text)) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return true, ""
			}
		}
		return false, "no such line"
	})
}

// refusals counts what the audit logs of the planes say that a user was refused.
func refusals(user, resource string) int {
	n := 0
	for _, m := range []*machine{victim.n1, victim.n2} {
		text, err := os.ReadFile(filepath.Join(m.dir, "logs", "audit.log"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var e auditv1.Event
			if json.Unmarshal([]byte(line), &e) == nil && e.User.Username == user && e.ObjectRef != nil && e.ObjectRef.Resource == resource && e.ResponseStatus != nil && e.ResponseStatus.Code == http.StatusForbidden {
				n++
			}
		}
	}
	return n
}
