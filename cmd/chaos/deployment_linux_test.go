package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// deploy runs the sample with replicas.
func (c *cluster) deploy(replicas int) error {
	repo, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	// Built outside of the node's host, whose syncs may be slow.
	wasm := filepath.Join(filepath.Dir(c.nodes[0].dir), "hello.wasm")
	build := exec.Command("go", "build", "-o", wasm, "./samples/hello")
	build.Dir, build.Env = repo, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the sample: %w\n%s", err, out)
	}
	out, err := c.nodes[0].copepod("", "run", wasm, "--replicas", fmt.Sprint(replicas))
	if err != nil {
		return err
	}
	answers, err := url.Parse(strings.TrimSpace(out[strings.LastIndexByte(out, '\n')+1:]))
	if err != nil || answers.Port() == "" {
		return fmt.Errorf("copepod run printed %q, want a URL", out)
	}
	c.nodePort = answers.Port()
	return nil
}

// scale sets the replicas through a node.
func (n *node) scale(ctx context.Context, replicas int) error {
	_, err := n.client.AppsV1().Deployments("default").Patch(ctx, "hello", types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
	return err
}

// scaler scales up and down until ctx ends.
func (c *cluster) scaler(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, patience)
		_ = c.nodes[r.IntN(len(c.nodes))].scale(attempt, 1+r.IntN(9)) // may fail; only the end counts
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(500+r.IntN(2500)) * time.Millisecond):
		}
	}
}

// pods are those of the Deployment that are not finished, as a node tells.
func (n *node) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := n.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=hello"})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	}), nil
}

func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// exactly waits until the Deployment has just so many pods, all ready, by the word
// of every node, and each node's port leads to those and to no others.
func (c *cluster) exactly(replicas int, patience time.Duration) error {
	return c.eventually(patience, fmt.Sprintf("exactly %d pods", replicas), func(ctx context.Context) error {
		var names []string
		for _, n := range c.nodes {
			pods, err := n.pods(ctx)
			if err != nil {
				return fmt.Errorf("pods at %s: %w", n.name, err)
			}
			seen := []string{}
			for _, p := range pods {
				if !ready(p) {
					return fmt.Errorf("at %s: %s on %s is %s, not ready (deleted: %v)", n.name, p.Name, p.Spec.NodeName, p.Status.Phase, p.DeletionTimestamp)
				}
				seen = append(seen, p.Name)
			}
			slices.Sort(seen)
			if len(seen) != replicas {
				return fmt.Errorf("at %s: %d pods %v", n.name, len(seen), seen)
			}
			if names != nil && !slices.Equal(names, seen) {
				return fmt.Errorf("at %s: pods %v, elsewhere %v", n.name, seen, names)
			}
			names = seen
		}
		for _, n := range c.nodes {
			answered := map[string]bool{}
			for range 30 * replicas { // a pod without an answer would have to be unlucky
				name, err := n.hello(ctx, c.nodePort)
				if err != nil {
					return fmt.Errorf("node port of %s: %w", n.name, err)
				}
				if !slices.Contains(names, name) {
					return fmt.Errorf("node port of %s: answer of %s, which is not among %v", n.name, name, names)
				}
				if answered[name] = true; len(answered) == replicas {
					break
				}
			}
			if len(answered) != replicas {
				return fmt.Errorf("node port of %s: answers of %d pods only", n.name, len(answered))
			}
		}
		return nil
	})
}

// hello asks the node port who answers, with a connection of its own.
func (n *node) hello(ctx context.Context, port string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.host.dial}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(n.addr.String(), port), nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
	if err != nil {
		return "", err
	}
	name, ok := strings.CutPrefix(strings.TrimSpace(string(body)), "Hello from ")
	if !ok || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %q", resp.Status, body)
	}
	return strings.TrimSuffix(name, "!"), nil
}
