package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/rest"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

func (a *app) token() *cobra.Command {
	return family("token", "Make, list and delete the tokens by which machines join", a.tokenCreate(), a.tokenList(), a.tokenDelete())
}

func (a *app) tokenCreate() *cobra.Command {
	var ttl time.Duration
	var uses int
	var role, note string
	c := &cobra.Command{
		Use:     "create",
		Short:   "Print the line to run on a machine that is to join",
		Long:    "Print the line to run on a machine that is to join.\n\nA machine with role plane may vote, and gets the cluster's keys, the CA's among\nthem: give that role only to machines that you would trust with the cluster.",
		Example: "  copepod token create\n  copepod token create --role plane\n  copepod token create --uses 20 --ttl 15m --note 'rack 4'",
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	f.DurationVar(&ttl, "ttl", join.DefaultTTL, "how long the token can be used")
	f.IntVar(&uses, "uses", 1, "how many machines may join with it")
	f.StringVar(&role, "role", string(join.RoleNode), "what they may be: node runs pods, plane may also vote")
	f.StringVar(&note, "note", "", "what it is for, for `copepod token list`")
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if uses < 1 || ttl <= 0 { // zero means the default to the package
			return errors.New("--uses and --ttl must be more than zero")
		}
		client, config, _, err := connect()
		if err != nil {
			return err
		}
		pin, err := pinOf(config)
		if err != nil {
			return err
		}
		tok, _, err := enroll.CreateToken(c.Context(), client, join.Spec{
			Pin: pin, Role: join.Role(role), Uses: uses, TTL: ttl, Note: note, Now: time.Now(),
		})
		if err != nil {
			return err
		}
		server, err := url.Parse(config.Host)
		if err != nil {
			return fmt.Errorf("server %q in the kubeconfig: %w", config.Host, err)
		}
		host, _, _ := net.SplitHostPort(server.Host)
		if addr, err := netip.ParseAddr(cmp.Or(host, server.Host)); err == nil && addr.IsLoopback() {
			_, _ = fmt.Fprintf(a.err, "note: %s is reached from this machine only; others can join when copepod runs with a --bind that they reach\n", addr)
		}
		_, err = fmt.Fprintf(a.out, "copepod join %s --token %s\n", server.Host, tok)
		return err
	}
	return c
}

// pinOf is the hash of the CA that a kubeconfig trusts.
func pinOf(config *rest.Config) (string, error) {
	caPEM := config.CAData
	if len(caPEM) == 0 && config.CAFile != "" {
		var err error
		if caPEM, err = os.ReadFile(config.CAFile); err != nil {
			return "", fmt.Errorf("CA of the cluster: %w", err)
		}
	}
	if len(caPEM) == 0 {
		return "", errors.New("the kubeconfig names no CA, which joining machines must know: use the one that `copepod up` wrote")
	}
	ca, err := certs.ParseCertificate(caPEM)
	if err != nil {
		return "", fmt.Errorf("CA of the cluster: %w", err)
	}
	return certs.Hash(ca), nil
}

func (a *app) tokenList() *cobra.Command {
	c := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the tokens, never their secrets", Args: cobra.NoArgs}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, _, _, err := connect()
		if err != nil {
			return err
		}
		all, err := enroll.Tokens(c.Context(), client)
		if err != nil {
			return err
		}
		now := time.Now()
		w := tabwriter.NewWriter(a.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "ID\tROLE\tUSED\tEXPIRES\tAGE\tNOTE")
		for _, r := range all {
			expires := "expired"
			switch {
			case r.Used >= r.Uses:
				expires = "used up"
			case r.Live(now):
				expires = "in " + duration.HumanDuration(r.Expires.Sub(now))
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%d/%d\t%s\t%s\t%s\n", r.ID, r.Role, r.Used, r.Uses, expires, duration.HumanDuration(now.Sub(r.Created)), cmp.Or(r.Note, "-"))
		}
		return w.Flush()
	}
	return c
}

func (a *app) tokenDelete() *cobra.Command {
	c := &cobra.Command{
		Use: "delete ID...", Aliases: []string{"rm"}, Short: "Make tokens worthless; machines that joined with them stay",
		Args: cobra.MinimumNArgs(1),
	}
	connect := a.clusterFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		client, _, _, err := connect()
		if err != nil {
			return err
		}
		for _, id := range args {
			if err := enroll.DeleteToken(c.Context(), client, id); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(a.out, "join token deleted\n"); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}
