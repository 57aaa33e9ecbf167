package node

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// memoryBytes is the memory of the machine (sysinfo(2)), or what a control group
// leaves this process of it, if that is less.
func memoryBytes() int64 {
	total := int64(0)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = int64(info.Totalram) * int64(info.Unit) //nolint:gosec // less than 2^63 bytes
	}
	if limit, ok := number("/sys/fs/cgroup/memory.max"); ok && limit < total {
		return limit
	}
	return total
}

// memoryFree is what programs could still have (proc_meminfo(5)).
func memoryFree() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return -1
	}
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemAvailable:")); ok {
			if kib, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64); err == nil {
				return kib << 10
			}
		}
	}
	return -1
}

// diskBytes is what is free, and the size, of the file system that dir is on
// (statfs(2)).
func diskBytes(dir string) (free, size int64) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return 0, 0
	}
	return int64(fs.Bavail) * int64(fs.Bsize), int64(fs.Blocks) * int64(fs.Bsize) //nolint:gosec,unconvert // less than 2^63 bytes; Bsize differs by architecture
}

// processesFree is how many more threads the system would make.
func processesFree() int64 {
	most, ok := number("/proc/sys/kernel/threads-max")
	if !ok {
		return -1
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return -1
	}
	return most - int64(info.Procs)
}

func number(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// systemInfo is what uname(2), os-release(5) and machine-id(5) tell.
func systemInfo() v1.NodeSystemInfo {
	info := v1.NodeSystemInfo{OSImage: "Linux"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		info.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	if data, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				info.OSImage = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	if id, err := os.ReadFile("/etc/machine-id"); err == nil {
		info.MachineID = strings.TrimSpace(string(id))
		info.SystemUUID = info.MachineID
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		info.BootID = strings.TrimSpace(string(id))
	}
	return info
}
