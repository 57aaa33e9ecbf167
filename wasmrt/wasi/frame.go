package wasi

// frame is one call as the guest made it: its memory and its raw arguments.
type frame struct {
	mem memory
	arg []uint64
}

func (f frame) u32(i int) uint32 { return uint32(f.arg[i]) }
func (f frame) u64(i int) uint64 { return f.arg[i] }
func (f frame) fd(i int) uint32  { return uint32(f.arg[i]) }

// path is the string whose pointer and length are arguments i and i+1.
func (f frame) path(i int) (string, errno) { return f.mem.text(f.u32(i), f.u32(i+1)) }
