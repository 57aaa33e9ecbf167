package wasi

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (st *filestat) details(info fs.FileInfo) {
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	st.dev, st.ino, st.links = sys.Dev, sys.Ino, uint64(sys.Nlink)
	st.atim, st.ctim = sys.Atim.Nano(), sys.Ctim.Nano()
}

// timespecs are t as utimensat(2) takes them.
func timespecs(t times) []unix.Timespec {
	spec := func(at time.Time) unix.Timespec {
		if at.IsZero() {
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		}
		return unix.NsecToTimespec(at.UnixNano())
	}
	return []unix.Timespec{spec(t.access), spec(t.modify)}
}

func setTimes(f *os.File, t times) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) {
		done = unix.UtimesNanoAt(int(fd), "", timespecs(t), unix.AT_EMPTY_PATH)
	})
	if err != nil {
		return err
	}
	return done
}

// setLinkTimes sets the times of a symbolic link itself.
func setLinkTimes(p place, t times) error {
	dir, name := split(p.path)
	parent, err := p.dir.root.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.UtimesNanoAt(int(parent.Fd()), name, timespecs(t), unix.AT_SYMLINK_NOFOLLOW)
}
