//go:build !linux

package compile

import "syscall"

// bind has nothing to bind with here: the collector's soft limit and the
// parent's clock are all that holds.
func bind(int64, int64) error { return nil }

func attributes() *syscall.SysProcAttr { return nil }
