//go:build !linux

package node

import (
	"runtime"

	v1 "k8s.io/api/core/v1"
)

// What the machine has is not measured on this system: the configured Capacity
// says it, and these are the defaults.
func memoryBytes() int64 { return 4 << 30 }

func memoryFree() int64 { return -1 }

func diskBytes(string) (free, size int64) { return 16 << 30, 16 << 30 }

func processesFree() int64 { return -1 }

func systemInfo() v1.NodeSystemInfo {
	return v1.NodeSystemInfo{OSImage: runtime.GOOS, KernelVersion: "unknown"}
}
