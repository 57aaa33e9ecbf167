package wasmrt

import "fmt"

// ExitReason is why an instance ended.
type ExitReason uint8

const (
	Completed ExitReason = iota // main returned, or the guest exited with code 0
	Error                       // the guest exited with another code
	OOMKilled                   // it ended after it was refused memory past its limit
	Killed                      // Kill or Host.Close
	Trap                        // it did what WebAssembly does not allow
)

func (r ExitReason) String() string {
	switch r {
	case Completed:
		return "Completed"
	case Error:
		return "Error"
	case OOMKilled:
		return "OOMKilled"
	case Killed:
		return "Killed"
	case Trap:
		return "Trap"
	}
	return fmt.Sprintf("ExitReason(%d)", uint8(r))
}

// TrapCode is the exit code of a guest that trapped: 128 + 6, as a shell shows
// a process that ended in abort.
const TrapCode = 134

// Exit is how an instance ended. OOMKilled and Killed carry code 137 (128 + 9),
// Trap carries TrapCode, and Message then holds the wasm stack.
type Exit struct {
	Code    uint32
	Reason  ExitReason
	Message string
}
