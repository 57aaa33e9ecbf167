package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/drain"

	"copepod/plane/enroll"
)

func (a *app) nodes() *cobra.Command {
	return family("node", "List the machines of the cluster, let them go, or put them out", a.nodeList(), a.nodeLeave(), a.nodeRevoke())
}

func (a *app) nodeList() *cobra.Command {
	c := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the machines, with their part in the plane", Args: cobra.NoArgs}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, _, _, err := connect()
		if err != nil {
			return err
		}
		nodes, err := client.CoreV1().Nodes().List(c.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		known, err := enroll.Identities(c.Context(), client)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "NAME\tSTATUS\tROLE\tRAFT\tADDRESS\tVERSION\tAGE")
		for _, r := range machineRows(nodes.Items, known, time.Now()) {
			_, _ = fmt.Fprintln(w, strings.Join(r, "\t"))
		}
		return w.Flush()
	}
	return c
}

// machineRows joins Nodes with what is known of machines, which may have no Node
// yet, or no more.
func machineRows(nodes []corev1.Node, known map[string]enroll.Identity, now time.Time) [][]string {
	var rows [][]string
	for i := range nodes {
		n := &nodes[i]
		id, joined := known[n.Name]
		role, address := "-", "-"
		if joined {
			role, address = string(id.Role), id.Address.String()
		}
		for _, na := range n.Status.Addresses {
			if na.Type == corev1.NodeInternalIP {
				address = na.Address
				break
			}
		}
		rows = append(rows, []string{
			n.Name, nodeStatus(n), role, cmp.Or(n.Annotations[enroll.AnnotationRaft], "-"), address,
			cmp.Or(n.Status.NodeInfo.KubeletVersion, id.Release, "-"), duration.HumanDuration(now.Sub(n.CreationTimestamp.Time)),
		})
	}
	for name, id := range known {
		if !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return n.Name == name }) {
			rows = append(rows, []string{
				name, "NotRegistered", string(id.Role), "-", id.Address.String(), cmp.Or(id.Release, "-"), duration.HumanDuration(now.Sub(id.Joined)),
			})
		}
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return rows
}

// nodeStatus is the column of kubectl.
func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if status = "NotReady"; c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func (a *app) nodeRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Put a machine out at once, because it is lost or stolen",
		Long:    "Put a machine out at once: its certificates and its key are refused everywhere,\nits pods are replaced on other machines, and the gossip key is changed. For a\nmachine that is well, use `copepod node leave`.",
		Example: "  copepod node revoke worker-3",
		Args:    cobra.ExactArgs(1),
	}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		client, _, _, err := connect()
		if err != nil {
			return err
		}
		out, err := enroll.Revoke(c.Context(), client, args[0])
		if err != nil {
			return err
		}
		if out.Plane {
			_, _ = fmt.Fprintf(a.err, "warning: %s was a plane: it had the key of the cluster's CA. If somebody else may have read its disk, this cluster cannot shut them out for good: move to a new one.\n", out.Node)
		}
		_, err = fmt.Fprintf(a.out, "node %s revoked\n", out.Node)
		return err
	}
	return c
}

func (a *app) nodeLeave() *cobra.Command {
	var timeout, grace time.Duration
	var force bool
	c := &cobra.Command{
		Use:     "leave [NAME]",
		Short:   "Let a machine go in peace: its pods move first",
		Long:    "Let a machine go in peace: no new pods for it, its pods end with their grace\nperiods and as disruption budgets allow, its part in the plane is handed on, and\nits membership ends. NAME is this machine if it is left out. Repeat the command\nif it is interrupted. Stop copepod on the machine afterwards.",
		Example: "  copepod node leave\n  copepod node leave worker-3 --timeout 10m",
		Args:    cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long the pods may take")
	f.DurationVar(&grace, "grace-period", -1, "how long each pod may take (default: what it asks for)")
	f.BoolVar(&force, "force", false, "also end pods that no controller will start elsewhere")
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		client, _, dataDir, err := connect()
		if err != nil {
			return err
		}
		name, err := leaver(args, dataDir)
		if err != nil {
			return err
		}
		d := &drain.Helper{
			Ctx: c.Context(), Client: client, Out: a.out, ErrOut: a.err,
			Force: force, IgnoreAllDaemonSets: true, DeleteEmptyDirData: true, GracePeriodSeconds: seconds(grace), Timeout: timeout,
		}
		if err := leave(c.Context(), client, d, name); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "node %s has left; stop copepod there\n", name)
		return err
	}
	return c
}

func seconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(d.Round(time.Second) / time.Second)
}

// leaver is the machine that was named, or the one of the data directory.
func leaver(args []string, dataDir string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	m, err := enroll.Load(dataDir)
	if errors.Is(err, enroll.ErrNoMembership) {
		return "", fmt.Errorf("data directory %s did not join a cluster: name the machine that is to leave", dataDir)
	}
	if err != nil {
		return "", err
	}
	return m.Name, nil
}

// leave takes the machine's pods, then its vote, then its membership.
func leave(ctx context.Context, client kubernetes.Interface, d *drain.Helper, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err): // an earlier try came this far, or it never registered
	case err != nil:
		return fmt.Errorf("node %q: %w", name, err)
	default:
		if err := drain.RunCordonOrUncordon(d, node, true); err != nil {
			return fmt.Errorf("node %q: %w", name, err)
		}
		if err := drain.RunNodeDrain(d, name); err != nil {
			return fmt.Errorf("node %q keeps pods: %w; it takes no new ones, `copepod uncordon %s` undoes that", name, err, name)
		}
		if err := handOn(ctx, client, name); err != nil {
			return err
		}
	}
	_, err = enroll.Release(ctx, client, name)
	return err
}

// raftPatience is how long the leader may take to do without a voter. It does so
// in any case when the machine is released.
const raftPatience = 30 * time.Second

// handOn asks the leader to take the machine out of Raft, and waits for it.
func handOn(ctx context.Context, client kubernetes.Interface, name string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, enroll.AnnotationLeaving)
	node, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	limit := time.After(raftPatience)
	for err == nil && node.Annotations[enroll.AnnotationRaft] != "" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return nil
		case <-time.After(500 * time.Millisecond):
			node, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		}
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %q: %w", name, err)
	}
	return nil
}
