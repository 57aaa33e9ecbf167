package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/spf13/cobra"

	"copepod/cmd/config"
	"copepod/plane/enroll"
)

func (a *app) join() *cobra.Command {
	var token string
	c := &cobra.Command{
		Use:     "join ADDRESS",
		Short:   "Make this machine a member of a cluster, and run it",
		Long:    "Make this machine a member of the cluster at ADDRESS, and run it as `up` does.\n`copepod token create`, on a member, prints the whole line.\n\nThe membership is kept in the data directory: the same line again, or\n`copepod up`, goes on with it.",
		Example: "  copepod join 192.0.2.7:6443 --token cpd1.…\n  copepod join 192.0.2.7 --token cpd1.… --node-name worker-3 --data-dir /var/lib/copepod",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&token, "token", "", "what `copepod token create` printed")
	if err := config.AddFlags(c.Flags(), a.defaults); err != nil {
		panic(fmt.Sprintf("the settings that are compiled in: %v", err)) // ours, and tested
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if token == "" {
			return errors.New("--token is missing: `copepod token create`, on a machine of the cluster, prints the whole line")
		}
		cfg, err := a.settings(c)
		if err != nil {
			return err
		}
		if _, err := enter(c.Context(), cfg, args[0], token); err != nil {
			return err
		}
		return a.start(c.Context(), cfg, "")
	}
	return c
}

// enter joins the cluster, unless this data directory has.
func enter(ctx context.Context, cfg config.Config, server, token string) (*enroll.Membership, error) {
	unlock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	name, err := nodeName(cfg)
	if err != nil {
		return nil, err
	}
	bind := cfg.Bind
	if bind.IsLoopback() && !onLoopback(server) {
		bind = netip.Addr{} // the default, which the others could not reach
	}
	return enroll.Join(ctx, enroll.Request{
		Dir: cfg.DataDir, Server: server, Token: token, Name: name, Bind: bind, Address: cfg.Advertise, Version: release,
		Ports: enroll.Ports{
			API: cfg.API.Port, Node: cfg.Node.Port, Gossip: cfg.Gossip.Port, Peer: cfg.Plane.Port, Mesh: cfg.Network.MeshPort,
		},
	})
}

// onLoopback tells whether a server is on this machine.
func onLoopback(server string) bool {
	hostPort, err := enroll.ParseServer(server)
	if err != nil {
		return false // Join says what is wrong with it
	}
	host, _, _ := net.SplitHostPort(hostPort)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
