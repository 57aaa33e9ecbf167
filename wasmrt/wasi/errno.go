package wasi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
)

// errno is the result of a preview1 function.
// Source: WASI preview1 `errno` (wasi_snapshot_preview1.witx, typenames).
type errno uint16

const (
	success         errno = 0
	errTooBig       errno = 1
	errAccess       errno = 2
	errAddrInUse    errno = 3
	errAddrNotAvail errno = 4
	errFamily       errno = 5
	errAgain        errno = 6
	errAlready      errno = 7
	errBadFD        errno = 8
	errBusy         errno = 10
	errConnAborted  errno = 13
	errConnRefused  errno = 14
	errConnReset    errno = 15
	errQuota        errno = 19
	errDestAddr     errno = 17
	errExist        errno = 20
	errFault        errno = 21
	errFileTooBig   errno = 22
	errHostUnreach  errno = 23
	errIllegalByte  errno = 25
	errInProgress   errno = 26
	errInterrupted  errno = 27
	errInvalid      errno = 28
	errIO           errno = 29
	errIsConnected  errno = 30
	errIsDir        errno = 31
	errLoop         errno = 32
	errTooManyFiles errno = 33
	errTooManyLinks errno = 34
	errMessageSize  errno = 35
	errNameTooLong  errno = 37
	errNetUnreach   errno = 40
	errFileTable    errno = 41
	errNoBuffers    errno = 42
	errNoEntry      errno = 44
	errNoMemory     errno = 48
	errNoProtoOpt   errno = 50
	errNoSpace      errno = 51
	errNotConnected errno = 53
	errNotDir       errno = 54
	errNotEmpty     errno = 55
	errNotSocket    errno = 57
	errNotSupported errno = 58
	errNoDevice     errno = 60
	errOverflow     errno = 61
	errNotPermitted errno = 63
	errPipe         errno = 64
	errProtocol     errno = 66
	errReadOnly     errno = 69
	errIllegalSeek  errno = 70
	errTimedOut     errno = 73
	errTextFileBusy errno = 74
	errCrossDevice  errno = 75
)

// What WasmEdge's getaddrinfo answers, beyond the standard.
// Source: WasmEdge, thirdparty/wasi/api.hpp, __wasi_errno_t.
const (
	errNameFailed  errno = 80
	errNameFamily  errno = 81
	errNameMemory  errno = 82
	errNameUnknown errno = 84
	errNameService errno = 85
)

// system maps what the host's kernel answers to what the guest is told. A code
// that is not here becomes an I/O error: a guest never learns more of the host.
var system = map[syscall.Errno]errno{
	syscall.E2BIG: errTooBig, syscall.EACCES: errAccess, syscall.EADDRINUSE: errAddrInUse,
	syscall.EADDRNOTAVAIL: errAddrNotAvail, syscall.EAFNOSUPPORT: errFamily, syscall.EAGAIN: errAgain,
	syscall.EALREADY: errAlready, syscall.EBADF: errBadFD, syscall.EBUSY: errBusy,
	syscall.ECONNABORTED: errConnAborted, syscall.ECONNREFUSED: errConnRefused, syscall.ECONNRESET: errConnReset,
	syscall.EDQUOT: errQuota, syscall.EEXIST: errExist, syscall.EFBIG: errFileTooBig,
	syscall.EHOSTUNREACH: errHostUnreach, syscall.EILSEQ: errIllegalByte, syscall.EINTR: errInterrupted,
	syscall.EINVAL: errInvalid, syscall.EISCONN: errIsConnected, syscall.EISDIR: errIsDir,
	syscall.ELOOP: errLoop, syscall.EMFILE: errTooManyFiles, syscall.EMLINK: errTooManyLinks,
	syscall.EMSGSIZE: errMessageSize, syscall.ENAMETOOLONG: errNameTooLong, syscall.ENETUNREACH: errNetUnreach,
	syscall.ENFILE: errTooManyFiles, syscall.ENOBUFS: errNoBuffers, syscall.ENOENT: errNoEntry,
	syscall.ENOMEM: errNoMemory, syscall.ENOSPC: errNoSpace, syscall.ENOTCONN: errNotConnected,
	syscall.ENOTDIR: errNotDir, syscall.ENOTEMPTY: errNotEmpty, syscall.ENOTSUP: errNotSupported,
	syscall.ENXIO: errNoDevice, syscall.EOVERFLOW: errOverflow, syscall.EPERM: errNotPermitted,
	syscall.EPIPE: errPipe, syscall.EROFS: errReadOnly, syscall.ESPIPE: errIllegalSeek,
	syscall.ETIMEDOUT: errTimedOut, syscall.ETXTBSY: errTextFileBusy, syscall.EXDEV: errCrossDevice,
}

// toErrno is the one place where a Go error becomes a guest's errno.
func toErrno(err error) errno {
	if err == nil {
		return success
	}
	if e, ok := errors.AsType[errno](err); ok {
		return e
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		if known, ok := system[e]; ok {
			return known
		}
		return errIO
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errNoEntry
	case errors.Is(err, fs.ErrExist):
		return errExist
	case errors.Is(err, fs.ErrPermission):
		return errNotPermitted
	case errors.Is(err, fs.ErrInvalid):
		return errInvalid
	case errors.Is(err, fs.ErrClosed), errors.Is(err, net.ErrClosed):
		return errBadFD
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errTimedOut
	case errors.Is(err, io.ErrClosedPipe):
		return errPipe
	}
	// os.Root reports an escape with an error of its own that it does not export;
	// it is the only *fs.PathError left that carries no system code.
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return errNotPermitted
	}
	if _, ok := errors.AsType[*os.LinkError](err); ok {
		return errNotPermitted
	}
	return errIO
}

// names are the standard's own, by number.
var names = [...]string{
	"success", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already",
	"badf", "badmsg", "busy", "canceled", "child", "connaborted", "connrefused", "connreset",
	"deadlk", "destaddrreq", "dom", "dquot", "exist", "fault", "fbig", "hostunreach",
	"idrm", "ilseq", "inprogress", "intr", "inval", "io", "isconn", "isdir",
	"loop", "mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset",
	"netunreach", "nfile", "nobufs", "nodev", "noent", "noexec", "nolck", "nolink",
	"nomem", "nomsg", "noprotoopt", "nospc", "nosys", "notconn", "notdir", "notempty",
	"notrecoverable", "notsock", "notsup", "notty", "nxio", "overflow", "ownerdead", "perm",
	"pipe", "proto", "protonosupport", "prototype", "range", "rofs", "spipe", "srch",
	"stale", "timedout", "txtbsy", "xdev", "notcapable",
}

// Error makes an errno an error, so that it can travel where errors do.
func (e errno) Error() string {
	if int(e) < len(names) {
		return names[e]
	}
	return "errno " + strconv.Itoa(int(e))
}
