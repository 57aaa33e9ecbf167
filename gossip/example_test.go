package gossip_test

import (
	"context"
	"fmt"
	"log/slog"

	"copepod/gossip"
	"copepod/gossip/gossiptest"
)

// Two members meet, and one of them leaves.
func Example() {
	net := gossiptest.New(1) // sockets, without a Transport in Config
	key := gossip.NewKey()
	run := func(ctx context.Context, name string) (*gossip.Gossip, <-chan error) {
		g, err := gossip.New(gossip.Config{
			Name: name, Transport: net.Transport(name), Keys: [][]byte{key},
			Meta: gossip.Meta{Version: "v1", APIPort: 6443},
			Pace: gossip.LAN(), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			panic(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		<-g.Ready()
		return g, ended
	}
	ctx, stop := context.WithCancel(context.Background())
	first, firstEnded := run(ctx, "n1")
	events := first.Events(ctx)
	fmt.Println((<-events).Member.Name, "is the member itself")

	brief, leave := context.WithCancel(ctx)
	second, secondEnded := run(brief, "n2")
	if _, err := second.Join(ctx, []string{first.Addr().String()}); err != nil {
		fmt.Println(err)
	}
	e := <-events
	fmt.Println(e.Member.Name, e.Kind, "with API port", e.Member.Meta.APIPort)

	leave()
	e = <-events
	fmt.Println(e.Member.Name, e.Kind)
	fmt.Println(<-secondEnded)
	stop()
	fmt.Println(<-firstEnded)
	// Output:
	// n1 is the member itself
	// n2 joined with API port 6443
	// n2 left
	// <nil>
	// <nil>
}
