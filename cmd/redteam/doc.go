// Package redteam has no code of the product: its tests run three machines of
// copepod as one cluster, each in a process of its own, and attack them as
// somebody would who has the gossip key, a node's certificate, an old token, a
// stolen kubeconfig, or nothing but the addresses. An attack must gain nothing,
// must be logged or counted, and must not be felt by anybody else. The tests know
// ports, certificates and the Kubernetes API; they never look inside a process.
//
//	go test ./cmd/redteam
//
// The machines listen on addresses of 127.0.0.0/8 of their own, so the tests need
// Linux and disturb no other cluster.
package redteam
