package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"copepod/cmd/config"
	"copepod/plane"
	"copepod/plane/store"
)

// plane is the verbs by which an operator looks after the replicated store.
func (a *app) plane() *cobra.Command {
	return family("plane", "Look after the control plane: status, backup, restore, recover",
		a.planeStatus(), a.planeBackup(), a.planeRestore(), a.planeRecover())
}

func (a *app) planeStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show who leads and votes, how far each is behind, and how slow its disk is", Args: cobra.NoArgs}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, _, _, err := connect()
		if err != nil {
			return err
		}
		data, err := client.RESTClient().Get().AbsPath(plane.StatusPath).DoRaw(c.Context())
		if err != nil {
			return fmt.Errorf("plane status: %w", err)
		}
		var status store.Status
		if err := json.Unmarshal(data, &status); err != nil {
			return fmt.Errorf("plane status: the answer cannot be read: %w", err)
		}
		return a.showStatus(status)
	}
	return c
}

func (a *app) showStatus(s store.Status) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tADDRESS\tROLE\tTERM\tAPPLIED\tLAG\tCONTACT\tFSYNC P50/P99\tHEALTH")
	for _, m := range s.Members {
		role := "follower"
		switch {
		case m.ID == s.Leader:
			role = "leader"
		case !m.Voter:
			role = "standby"
		}
		health := "ok"
		if m.Error != "" || m.Problem != "" {
			health = strings.TrimSpace(m.Error + " " + m.Problem)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s/%s\t%s\n", m.ID, m.Address, role, m.Term, m.Applied, m.Lag,
			m.LastContact.Round(time.Millisecond), m.Fsync.P50.Round(10*time.Microsecond), m.Fsync.P99.Round(10*time.Microsecond), health)
	}
	return w.Flush()
}

func (a *app) planeBackup() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that is stored, as of one moment, and the cluster's keys, to FILE",
		Long:  "Write everything that is stored, as of one moment, to FILE, while the cluster\ngoes on. On a machine of the plane the cluster's keys go with it, without which\nSecrets cannot be read: keep the file as you would keep a key.",
		Args:  cobra.ExactArgs(1),
	}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		client, _, dataDir, err := connect()
		if err != nil {
			return err
		}
		body, err := client.RESTClient().Get().AbsPath(plane.BackupPath).Stream(c.Context())
		if err != nil {
			return fmt.Errorf("plane backup: %w", err)
		}
		defer func() { _ = body.Close() }()
		keys, err := writeBackup(args[0], dataDir, body)
		if err != nil {
			return fmt.Errorf("plane backup: %w", err)
		}
		if !keys {
			_, _ = fmt.Fprintf(a.err, "warning: %s holds no part of the plane, so the backup has no keys; run this on a machine of the plane for one that can be restored alone\n", dataDir)
		}
		_, err = fmt.Fprintf(a.out, "backup written to %s\n", args[0])
		return err
	}
	return c
}

func (a *app) planeRestore() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Begin a new cluster of one machine from what `plane backup` wrote",
		Long:  "Begin a new cluster of one machine from what `plane backup` wrote, in a data\ndirectory that is empty. Start it with `copepod up`, and let the others join anew.",
		Args:  cobra.ExactArgs(1),
	}
	if err := config.AddFlags(c.Flags(), a.defaults); err != nil {
		panic(fmt.Sprintf("the settings that are compiled in: %v", err)) // ours, and tested
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := a.settings(c)
		if err != nil {
			return err
		}
		st, unlock, err := closedStore(cfg)
		if err != nil {
			return err
		}
		defer unlock()
		rev, err := readBackup(args[0], cfg.DataDir, func(image io.Reader) (store.Revision, error) { return store.Restore(st, image) })
		if err != nil {
			return fmt.Errorf("plane restore: %w", err)
		}
		_, err = fmt.Fprintf(a.out, "restored up to revision %d: start it with `copepod up --data-dir %s`\n", rev, cfg.DataDir)
		return err
	}
	return c
}

func (a *app) planeRecover() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "recover",
		Short: "Make this machine the only voter, after a majority was lost for good",
		Long:  "Make this machine the only voter, after a majority of them was lost for good.\nWhat was acknowledged and did not reach this machine is gone: without --yes this\nonly shows what is here, so that you can compare the survivors. Recover the one\nwith the greatest term, and then the greatest entry. The others must never run\nagain with their data directories: empty those, and let them join anew.",
		Args:  cobra.NoArgs,
	}
	if err := config.AddFlags(c.Flags(), a.defaults); err != nil {
		panic(fmt.Sprintf("the settings that are compiled in: %v", err)) // ours, and tested
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := a.settings(c)
		if err != nil {
			return err
		}
		st, unlock, err := closedStore(cfg)
		if err != nil {
			return err
		}
		defer unlock()
		look := store.Inspect
		if yes {
			look = store.Recover
		}
		found, err := look(st)
		if err != nil {
			return fmt.Errorf("plane recover: %w", err)
		}
		w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintf(w, "member\t%s\nlast entry\t%d of term %d\nrevision\t%d\n", found.ID, found.Last, found.LastTerm, found.Revision)
		for _, m := range found.Members {
			_, _ = fmt.Fprintf(w, "knew\t%s at %s\n", m.ID, m.Address)
		}
		if yes {
			_, _ = fmt.Fprintf(w, "\nThis machine is now the only voter: start it with `copepod up --data-dir %s`.\n", cfg.DataDir)
		} else {
			_, _ = fmt.Fprintln(w, "\nNothing was changed. Compare the survivors, then say --yes on the one that is furthest.")
		}
		return w.Flush()
	}
	return c
}

// closedStore configures the store of a machine that does not run.
func closedStore(cfg config.Config) (_ store.Config, unlock func(), err error) {
	if unlock, err = lockDataDir(cfg.DataDir); err != nil {
		return store.Config{}, nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	if cfg, _, err = settle(cfg); err != nil {
		return store.Config{}, nil, err
	}
	addr, err := advertised(cfg)
	if err != nil {
		return store.Config{}, nil, err
	}
	name, err := nodeName(cfg)
	if err != nil {
		return store.Config{}, nil, err
	}
	return store.Config{Dir: filepath.Join(cfg.DataDir, "store"), NodeID: name, Advertise: hostPort(addr, cfg.Plane.Port)}, unlock, nil
}
