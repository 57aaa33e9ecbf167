// Package chaos has no code of the product: its tests run real processes of
// copepod as one cluster, break them, their network and their disks by a seeded
// plan, and then check what clients saw. It knows the binary's verbs and the
// Kubernetes API; it never learns what is inside the process.
//
//	go test ./cmd/chaos -run TestChaos -chaos.for 60s -chaos.seed 7 -v
//	go test ./cmd/chaos -run xxx -bench Failover -chaos.kills 20
//
// As root on Linux each node gets a network, a disk and mounts of its own, which
// end with the process of the test, however that ends. Elsewhere nodes run on
// 127.0.0.x, and faults of network and disk are skipped.
package chaos
