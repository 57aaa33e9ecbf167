package wasi

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Tracing writes one line for each host call, in the manner of strace:
//
//	fd_write(1, [13]) = 0 → 13
//	path_open(3, 0x1, "missing", 0x0, 0x2, 0x2, 0x0) = 44 noent
//	proc_exit(1) = ?
//
// Vectors show the lengths of their buffers, never what is in them.

// shapes say how the arguments of each function are shown, a letter or two
// arguments' pair each; a function that comes in several dialects has several,
// told apart by how many arguments they take.
//
//	d descriptor   u unsigned   i signed   x hexadecimal   p pointer
//	s pointer and length of text   b pointer and length of a buffer
//	v pointer and count of vectors   a address   A address that comes back
//	H, > and L pointer to a result of 16, 32 and 64 bits
var shapes = map[string][]string{
	"args_get": {"pp"}, "args_sizes_get": {">>"}, "environ_get": {"pp"}, "environ_sizes_get": {">>"},
	"clock_res_get": {"uL"}, "clock_time_get": {"uiL"},
	"fd_advise": {"diiu"}, "fd_allocate": {"dii"}, "fd_close": {"d"}, "fd_datasync": {"d"},
	"fd_fdstat_get": {"dp"}, "fd_fdstat_set_flags": {"dx"}, "fd_fdstat_set_rights": {"dxx"},
	"fd_filestat_get": {"dp"}, "fd_filestat_set_size": {"di"}, "fd_filestat_set_times": {"diix"},
	"fd_pread": {"dvi>"}, "fd_prestat_dir_name": {"db"}, "fd_prestat_get": {"dp"}, "fd_pwrite": {"dvi>"},
	"fd_read": {"dv>"}, "fd_readdir": {"dbi>"}, "fd_renumber": {"dd"}, "fd_seek": {"diuL"},
	"fd_sync": {"d"}, "fd_tell": {"dL"}, "fd_write": {"dv>"},
	"path_create_directory": {"ds"}, "path_filestat_get": {"dxsp"}, "path_filestat_set_times": {"dxsiix"},
	"path_link": {"dxsds"}, "path_open": {"dxsxxxx>"}, "path_readlink": {"dsb>"},
	"path_remove_directory": {"ds"}, "path_rename": {"dsds"}, "path_symlink": {"sds"}, "path_unlink_file": {"ds"},
	"poll_oneoff": {"ppu>"}, "proc_exit": {"u"}, "proc_raise": {"u"}, "random_get": {"b"}, "sched_yield": {""},
	"sock_accept": {"dx>", "d>"}, "sock_recv": {"dvx>H"}, "sock_send": {"dvx>"}, "sock_shutdown": {"du"},

	"sock_open": {"uu>"}, "sock_bind": {"dau"}, "sock_listen": {"du"}, "sock_connect": {"dau"},
	"sock_recv_from": {"dvAx>H", "dvAx>>H"}, "sock_send_to": {"dvaux>"},
	"sock_getsockopt": {"duupp"}, "sock_setsockopt": {"duupu"},
	"sock_getlocaladdr": {"dA>>", "dA>"}, "sock_getpeeraddr": {"dA>>", "dA>"},
	"sock_getaddrinfo": {"ssppu>"},
}

// takes is how many arguments a letter stands for.
func takes(letter rune) int {
	if strings.ContainsRune("sbv", letter) {
		return 2
	}
	return 1
}

func argumentsOf(shape string) (n int) {
	for _, c := range shape {
		n += takes(c)
	}
	return n
}

// shapeOf is how a function's arguments are shown; one that has no shape shows
// them as numbers.
func shapeOf(name string, params int) string {
	for _, s := range shapes[strings.TrimSuffix(name, "_v2")] {
		if argumentsOf(s) == params {
			return s
		}
	}
	return strings.Repeat("x", params)
}

// traced is a call that is written down, also if the guest does not come back
// from it.
func (s *System) traced(name string, f function, call frame) errno {
	given := frame{mem: call.mem, arg: make([]uint64, len(f.params))} // results go where arguments were
	for i, v := range call.arg[:len(f.params)] {
		if f.params[i] == 'i' {
			v = uint64(uint32(v)) // the upper half is whatever was there
		}
		given.arg[i] = v
	}
	shape := shapeOf(name, len(f.params))
	line := append([]byte(name), '(')
	line = append(given.appendArguments(line, shape), ") = "...)
	ended := false
	defer func() {
		if !ended {
			_, _ = s.trace.Write(append(line, "?\n"...))
		}
	}()
	e := f.call(s, call)
	ended = true
	line = strconv.AppendUint(line, uint64(e), 10)
	if e != success {
		line = append(append(line, ' '), e.Error()...)
	} else if results := given.appendResults(nil, shape); len(results) > 0 {
		line = append(append(line, " → "...), results...)
	}
	_, _ = s.trace.Write(append(line, '\n')) // who cannot take a trace does without
	return e
}

const (
	maxShownText    = 128
	maxShownVectors = 8
)

func (f frame) appendArguments(line []byte, shape string) []byte {
	i, first := 0, true
	for _, c := range shape {
		if !strings.ContainsRune("AH>L", c) {
			if !first {
				line = append(line, ", "...)
			}
			first = false
			line = f.appendArgument(line, c, i)
		}
		i += takes(c)
	}
	return line
}

func (f frame) appendArgument(line []byte, c rune, i int) []byte {
	switch c {
	case 'i':
		return strconv.AppendInt(line, int64(f.u64(i)), 10)
	case 'x', 'p':
		return fmt.Appendf(line, "%#x", f.u64(i))
	case 's':
		text, ok := f.mem.view(f.u32(i), min(f.u32(i+1), maxShownText))
		if !ok {
			return append(line, "(fault)"...)
		}
		line = strconv.AppendQuote(line, string(text))
		if f.u32(i+1) > maxShownText {
			line = append(line, "…"...)
		}
		return line
	case 'b':
		return fmt.Appendf(line, "[%d]", f.u32(i+1))
	case 'v':
		return f.appendVectors(line, i)
	case 'a':
		if b, e := f.addressBytes(i); e == success {
			if len(b) == storageSize { // a family, and the address behind it
				b = b[2:6]
			}
			if ip, ok := netip.AddrFromSlice(b); ok {
				return append(line, ip.String()...)
			}
		}
		return append(line, "(fault)"...)
	}
	return strconv.AppendUint(line, f.u64(i), 10)
}

func (f frame) appendVectors(line []byte, i int) []byte {
	count := f.u32(i + 1)
	table, ok := f.mem.view(f.u32(i), min(count, maxShownVectors)*8)
	if !ok {
		return append(line, "(fault)"...)
	}
	line = append(line, '[')
	for n := 0; n < len(table); n += 8 {
		if n > 0 {
			line = append(line, ", "...)
		}
		line = strconv.AppendUint(line, uint64(binary.LittleEndian.Uint32(table[n+4:])), 10)
	}
	if count > maxShownVectors {
		line = append(line, ", …"...)
	}
	return append(line, ']')
}

// appendResults shows what a call that succeeded put where its arguments say.
func (f frame) appendResults(line []byte, shape string) []byte {
	i := 0
	for _, c := range shape {
		if text := f.result(c, i); text != "" {
			if len(line) > 0 {
				line = append(line, ", "...)
			}
			line = append(line, text...)
		}
		i += takes(c)
	}
	return line
}

func (f frame) result(c rune, i int) string {
	size := map[rune]uint32{'H': 2, '>': 4, 'L': 8}[c]
	if c == 'A' {
		return string(f.appendArgument(nil, 'a', i))
	}
	if size == 0 {
		return ""
	}
	b, ok := f.mem.view(f.u32(i), size)
	if !ok {
		return "(fault)"
	}
	var wide [8]byte
	copy(wide[:], b)
	return strconv.FormatUint(binary.LittleEndian.Uint64(wide[:]), 10)
}
