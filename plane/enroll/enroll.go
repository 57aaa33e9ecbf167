// Package enroll takes machines into the cluster and lets them out: the exchange
// of a join token for certificates and keys, from both sides, the renewal of
// certificates, what a machine keeps about its membership, and the list and the
// gossip key that shut out whoever left. It knows tokens, certificates and a few
// objects in kube-system; it never learns how Raft, gossip or pods work.
//
//	server, err := enroll.NewServer(enroll.ServerConfig{Dir: dir, CA: ca, Objects: api})
//	handler = server.Front(handler) // before everything else on the API's port
//	go server.Run(ctx)              // on every plane
//	go server.Keep(ctx)             // on the leader
//
//	m, err := enroll.Join(ctx, enroll.Request{Dir: dir, Server: address, Token: token})
//	m, err := enroll.Load(dir)      // at each later start
//
// The joiner verifies the cluster's CA by the hash in the token before it says
// anything. The server believes nothing that a request says about names: the
// address must be the one that the connection comes from, and subject, usages
// and lifetime of a certificate are the server's.
package enroll

import (
	"net/netip"
	"time"

	"copepod/plane/auth/gossipkeys"
	"copepod/plane/auth/token/join"
)

// Paths on the port of the API.
const (
	Prefix    = "/copepod/"
	JoinPath  = "/copepod/v1/join"
	RenewPath = "/copepod/v1/renew"
	KeysPath  = "/copepod/v1/plane-keys"
)

// DefaultPort is that of the API.
const DefaultPort = 6443

// Objects in kube-system, and what is in them.
const (
	Namespace = "kube-system"

	TokenType   = "copepod.dev/join-token" // Secrets named TokenPrefix + id
	TokenPrefix = "join-token-"
	tokenField  = "record"

	IdentityType   = "copepod.dev/node-identity" // Secrets named IdentityPrefix + node
	IdentityPrefix = "node-identity-"
	identityField  = "identity"

	KeysName  = "gossip-keys" // Secret
	keysType  = "copepod.dev/gossip-keys"
	keysField = "ring"

	RevokedName  = "revoked-nodes" // ConfigMap
	revokedField = "revoked"
)

// Annotations of Nodes. Whoever may write a Node can set them, and a node its
// own: nothing is decided by them but how long to wait and what to show.
const (
	// AnnotationKeys is the generation of gossip keys that the node has.
	AnnotationKeys = "copepod.dev/gossip-keys"
	// AnnotationRaft is "voter" or "nonvoter", as the leader sees it.
	AnnotationRaft = "copepod.dev/raft"
	// AnnotationLeaving asks the leader to take the machine out of Raft.
	AnnotationLeaving = "copepod.dev/leaving"
)

// Ports are where a machine listens. Zero: not at all.
type Ports struct {
	API    uint16 `json:"api,omitempty"`
	Node   uint16 `json:"node,omitempty"`
	Gossip uint16 `json:"gossip,omitempty"`
	Peer   uint16 `json:"peer,omitempty"`
	Mesh   uint16 `json:"mesh,omitempty"`
}

// A Member is a machine of the cluster as others reach it.
type Member struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Ports   Ports      `json:"ports"`
}

// API is where the member's API port answers.
func (m Member) API() string { return addrPort(m.Address, m.Ports.API) }

// Gossip is where the member gossips.
func (m Member) Gossip() netip.AddrPort { return netip.AddrPortFrom(m.Address, m.Ports.Gossip) }

// Peer is where the member talks Raft.
func (m Member) Peer() netip.AddrPort { return netip.AddrPortFrom(m.Address, m.Ports.Peer) }

func addrPort(a netip.Addr, port uint16) string {
	if port == 0 {
		port = DefaultPort
	}
	return netip.AddrPortFrom(a, port).String()
}

// Settings are those that all machines of a cluster must share.
type Settings struct {
	PodCIDR     netip.Prefix `json:"podCIDR"`
	ServiceCIDR netip.Prefix `json:"serviceCIDR"`
}

// Keys are what every plane has and no other machine.
type Keys struct {
	CA     []byte `json:"ca"`     // PEM, as in pki/ca.key
	Seal   []byte `json:"seal"`   // as in seal/seal.keys
	Tokens []byte `json:"tokens"` // as in tokens/sa.key
}

// joinRequest is what a joiner sends, after it has verified the server.
type joinRequest struct {
	TokenID string     `json:"tokenID"`
	Secret  string     `json:"secret"`
	Name    string     `json:"name"`
	Client  string     `json:"client"`  // request in PEM
	Serving string     `json:"serving"` // request in PEM, of the same key
	Address netip.Addr `json:"address"`
	Ports   Ports      `json:"ports"`
	Version string     `json:"version"`
	Time    time.Time  `json:"time"`
}

// renewRequest asks for new certificates of the key by which the connection was
// made.
type renewRequest struct {
	Client  string     `json:"client,omitempty"`
	Serving string     `json:"serving,omitempty"`
	Address netip.Addr `json:"address"`
	Ports   Ports      `json:"ports"`
	Version string     `json:"version"`
	Time    time.Time  `json:"time"`
}

// answer is what a machine gets for either; a renewal brings no Keys.
type answer struct {
	Role     join.Role        `json:"role"`
	Name     string           `json:"name"`
	CA       string           `json:"ca"`
	Client   string           `json:"client,omitempty"`
	Serving  string           `json:"serving,omitempty"`
	Gossip   *gossipkeys.Ring `json:"gossip,omitempty"`
	Keys     *Keys            `json:"keys,omitempty"`
	Planes   []Member         `json:"planes"`
	Settings Settings         `json:"settings"`
}
