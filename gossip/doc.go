// Package gossip tells each member of a cluster who else is there: it joins,
// it notices within seconds who fell silent, and it carries a few dozen bytes
// about each member. It is hashicorp/memberlist (SWIM with Lifeguard) behind a
// small surface, with seals and limits of our own on everything it reads.
//
// It knows names, addresses, keys, a Meta for each member, and time. It has
// never heard of pods, Raft, certificates or Kubernetes.
//
// Nothing is believed because gossip says it. Whoever holds a gossip key can
// claim any name, any Meta, and the death of anyone: that is how memberlist is
// made. So an Event is a hint to go and look, over a connection that proves who
// is on the other end. Whoever acts on a hint alone has made the gossip key a
// root password.
//
// What the package does promise against a stranger and against a member with a
// key: nothing is read before it opens under a key of the ring, nothing opened
// reaches memberlist before its shape and size are checked, what peers make us
// keep is bounded by Config.MaxMembers, and each refusal is counted, and logged
// at a bounded rate.
//
//	g, err := gossip.New(gossip.Config{
//		Name: "n1", Bind: netip.MustParseAddrPort("10.0.0.1:7946"),
//		Keys: [][]byte{key}, Pace: gossip.LAN(),
//	})
//	go g.Run(ctx) // leaves the cluster when ctx ends
//	_, err = g.Join(ctx, []string{"10.0.0.2:7946"})
//	for e := range g.Events(ctx) { … }
package gossip
