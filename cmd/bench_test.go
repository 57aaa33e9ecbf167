package cmd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The figures of docs/bench: a real `copepod up` in a process of its own, driven
// over HTTPS by client-go. Run them with `just bench`.

// process is a running `copepod up`.
type process struct {
	cmd   *exec.Cmd
	dir   string
	ready time.Duration // from exec to the last line of its greeting
}

var binary = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs(filepath.Join("..", "bin", "copepod")) // git ignores it
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", path, "..").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func upProcess(b *testing.B, dir string, source ...string) *process {
	b.Helper()
	path, err := binary()
	if err != nil {
		b.Fatal(err)
	}
	args := append([]string{"up", "--data-dir", dir, "--api-port", strconv.Itoa(freePort(b)), "--node-port", strconv.Itoa(freePort(b))}, source...)
	p := &process{cmd: exec.Command(path, args...), dir: dir}
	var seen bytes.Buffer
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.cmd.Stderr = &seen
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.stop)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Ctrl-C") {
			p.ready = time.Since(start)
			go func() {
				for lines.Scan() {
				}
			}()
			return p
		}
	}
	b.Fatalf("up ended early:\n%s", &seen)
	return nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

func (p *process) client(b *testing.B) *kubernetes.Clientset {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfigPath(p.dir))
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	config.Dial = (&net.Dialer{}).DialContext // a function of its own: a connection of its own
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// rss is the process's resident memory in bytes, by procfs.
func (p *process) rss(b *testing.B) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Skip("no procfs here")
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib * 1024
		}
	}
	return 0
}

// cpu is the processor time that the process has used.
func (p *process) cpu(b *testing.B) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Skip("no procfs here")
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func freePort(b *testing.B) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// BenchmarkUp is a first start and later ones: from exec to ready, and what an
// idle machine holds and uses.
func BenchmarkUp(b *testing.B) {
	if _, err := binary(); err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct{ name string }{{"first"}, {"again"}} {
		b.Run(tt.name, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "data")
			if tt.name == "again" {
				upProcess(b, dir).stop()
			}
			var ready []time.Duration
			var rss float64
			for b.Loop() {
				if tt.name == "first" {
					_ = os.RemoveAll(dir)
				}
				p := upProcess(b, dir)
				ready = append(ready, p.ready)
				rss = p.rss(b)
				p.stop()
			}
			slices.Sort(ready)
			b.ReportMetric(float64(ready[len(ready)/2].Milliseconds()), "ready-ms")
			b.ReportMetric(rss/1e6, "RSS-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkAPI is the API over HTTPS, with 1 and with 32 clients that each have a
// connection of their own.
func BenchmarkAPI(b *testing.B) {
	p := upProcess(b, filepath.Join(b.TempDir(), "data"))
	for _, n := range []int{1, 32} {
		clients := make([]*kubernetes.Clientset, n)
		for i := range clients {
			clients[i] = p.client(b)
		}
		var id atomic.Int64
		cm := func(i int64) *corev1.ConfigMap {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d-%d", n, i), Labels: map[string]string{"bench": "yes"}}, Data: map[string]string{"key": strings.Repeat("v", 256)}}
		}
		measure := func(name string, op func(c *kubernetes.Clientset) error) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { inParallel(b, clients, op) })
		}
		ctx := context.Background()
		measure("create", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ConfigMaps("default").Create(ctx, cm(id.Add(1)), metav1.CreateOptions{})
			return err
		})
		measure("get", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ConfigMaps("default").Get(ctx, fmt.Sprintf("c%d-1", n), metav1.GetOptions{})
			return err
		})
		var turn atomic.Int64
		measure("update", func(c *kubernetes.Clientset) error {
			o := cm(turn.Add(1)%id.Load() + 1)
			o.Data["key"] = strconv.FormatInt(turn.Load(), 10)
			_, err := c.CoreV1().ConfigMaps("default").Update(ctx, o, metav1.UpdateOptions{})
			return err
		})
		measure("list500", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{Limit: 500})
			return err
		})
		b.Run(fmt.Sprintf("watch/%d", n), func(b *testing.B) { watchLatency(b, clients) })
	}
}

// inParallel runs op b.N times over the clients and reports the rate and the
// latencies.
func inParallel(b *testing.B, clients []*kubernetes.Clientset, op func(*kubernetes.Clientset) error) {
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for _, c := range clients {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				t := time.Now()
				if err := op(c); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "ops/s")
	quantiles(b, took)
}

func quantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// watchLatency is the time from a write to its event at every one of the watchers.
func watchLatency(b *testing.B, clients []*kubernetes.Clientset) {
	ctx := context.Background()
	var watchers []<-chan string
	for _, c := range clients {
		w, err := c.CoreV1().ConfigMaps("kube-public").Watch(ctx, metav1.ListOptions{LabelSelector: "watched=yes"})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Stop()
		seen := make(chan string, 1024)
		go func() {
			for e := range w.ResultChan() {
				if o, ok := e.Object.(*corev1.ConfigMap); ok && e.Type != "DELETED" {
					seen <- o.Name
				}
			}
		}()
		watchers = append(watchers, seen)
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("w%d-%d-%d", len(clients), time.Now().UnixNano(), i)
		start := time.Now()
		if _, err := clients[0].CoreV1().ConfigMaps("kube-public").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watched": "yes"}}}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		for _, w := range watchers {
			for got := range w {
				if got == name {
					break
				}
			}
		}
		took = append(took, time.Since(start))
	}
	quantiles(b, took)
}

// BenchmarkPodReady is the time from the create of a pod, whose module is cached,
// to the event that says Ready.
func BenchmarkPodReady(b *testing.B) {
	p := upProcess(b, filepath.Join(b.TempDir(), "data"), filepath.Join("..", "samples", "hello"))
	c := p.client(b)
	ctx := context.Background()
	image := helloImage(b, c)
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "bench=ready"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("ready-%d", i), Labels: map[string]string{"bench": "ready"}},
			Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: new(int64(0)),
				Containers:                    []corev1.Container{{Name: "hello", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}},
			},
		}
		start := time.Now()
		if _, err := c.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		for e := range w.ResultChan() {
			if o, ok := e.Object.(*corev1.Pod); ok && o.Name == pod.Name && podReady(o) {
				break
			}
		}
		took = append(took, time.Since(start))
		if err := c.CoreV1().Pods("default").Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			b.Fatal(err)
		}
	}
	quantiles(b, took)
}

func helloImage(b *testing.B, c *kubernetes.Clientset) string {
	d, err := c.AppsV1().Deployments("default").Get(context.Background(), "hello", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return d.Spec.Template.Spec.Containers[0].Image
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// BenchmarkThousandPods scales a deployment from 1 to 1,000 pods of the Go sample
// on one node, all Ready, and then lets them idle.
func BenchmarkThousandPods(b *testing.B) {
	for b.Loop() {
		p := upProcess(b, filepath.Join(b.TempDir(), fmt.Sprint("data", time.Now().UnixNano())), filepath.Join("..", "samples", "hello"))
		c := p.client(b)
		ctx := context.Background()
		start := time.Now()
		patch := []byte(`{"spec":{"replicas":1000}}`)
		if _, err := c.AppsV1().Deployments("default").Patch(ctx, "hello", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			b.Fatal(err)
		}
		w, err := c.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=hello", LabelSelector: labels.Everything().String()})
		if err != nil {
			b.Fatal(err)
		}
		for e := range w.ResultChan() {
			if d, ok := e.Object.(*appsv1.Deployment); ok && d.Status.ReadyReplicas == 1000 {
				break
			}
		}
		w.Stop()
		b.ReportMetric(time.Since(start).Seconds(), "s-to-1000-ready")
		time.Sleep(5 * time.Second) // the idle machine is what is measured next
		rss, cpu := p.rss(b), p.cpu(b)
		time.Sleep(10 * time.Second)
		b.ReportMetric((p.cpu(b)-cpu).Seconds()*10, "idle-%core")
		b.ReportMetric(rss/1e6, "RSS-MB")
		b.ReportMetric(0, "ns/op")
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		_ = p.cmd.Wait()
	}
}
