package wasi

// What one guest may ask of the host. Each bound turns a wish past it into an
// errno (or a short count) and never into host memory.
const (
	maxFDs           = 4096     // open descriptors, as many as a process gets on common systems
	maxVectors       = 1024     // buffers in one call, as IOV_MAX
	maxTransfer      = 1 << 20  // bytes moved by one read or write
	maxPath          = 4096     // bytes in one path, as PATH_MAX
	maxSubscriptions = 1 << 16  // in one poll_oneoff; Go's runtime uses no more
	firstBuffer      = 512      // bytes read ahead of a stream at first
	streamBuffer     = 16 << 10 // and at most
	maxDatagram      = 64 << 10 // bytes in one datagram, as UDP has it
)
