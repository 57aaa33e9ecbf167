package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// What memberlist's messages look like once unsealed. memberlist trusts whoever
// has a key: it indexes into what it decoded, allocates what a header asks for
// and unpacks without a bound. So this file looks first, and lets through only
// what a member of ours sends: no compression, no user messages, one level of
// compounds, whole states.

// kind is memberlist's messageType; the numbers are its wire format.
type kind byte

const (
	kindPing         kind = 0
	kindIndirectPing kind = 1
	kindAck          kind = 2
	kindSuspect      kind = 3
	kindAlive        kind = 4
	kindDead         kind = 5
	kindState        kind = 6
	kindCompound     kind = 7
	kindNack         kind = 11
	kindChecksum     kind = 12
	kindError        kind = 13
)

// protocol is memberlist's protocol version, which all of ours speak.
const protocol = 2

// memberlist's numbers for the states that members exchange; those between are
// suspect and dead.
const (
	stateAliveOnWire = 0
	stateLeftOnWire  = 3
)

var errMalformed = errors.New("malformed")

// message is one piece of news: its kind, and the MessagePack after it.
type message struct {
	kind kind
	body []byte
}

// claim is what suspect, alive, dead and exchanged states have in common.
type claim struct {
	Incarnation uint32
	Node        string
	From        string // of suspect and dead
	Addr        []byte // of alive
	Port        uint16 // of alive
}

// news is a message as it was understood.
type news struct {
	kind kind
	claim
}

// decode reads the claim of a suspect, alive or dead message.
func (m message) decode() (news, error) {
	n := news{kind: m.kind}
	err := codec.NewDecoderBytes(m.body, &codec.MsgpackHandle{}).Decode(&n.claim)
	return n, err
}

// splitPacket returns the messages of an unsealed packet; they share b's memory.
func splitPacket(b []byte) ([]message, error) {
	if len(b) >= 5 && kind(b[0]) == kindChecksum {
		b = b[5:] // the seal says more than the checksum, which memberlist verifies
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty packet", errMalformed)
	}
	if kind(b[0]) != kindCompound {
		m, err := single(b)
		return []message{m}, err
	}
	return splitCompound(b[1:])
}

// splitCompound reads: count, that many lengths of two bytes, the messages.
func splitCompound(b []byte) ([]message, error) {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return nil, fmt.Errorf("%w: compound message is cut off", errMalformed)
	}
	n := int(b[0])
	lengths, rest := b[1:1+2*n], b[1+2*n:]
	messages := make([]message, 0, n)
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size > len(rest) {
			return nil, fmt.Errorf("%w: message %d of %d is cut off", errMalformed, i+1, n)
		}
		m, err := single(rest[:size])
		if err != nil {
			return nil, err
		}
		messages, rest = append(messages, m), rest[size:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after a compound message", errMalformed, len(rest))
	}
	return messages, nil
}

func single(b []byte) (message, error) {
	if len(b) == 0 {
		return message{}, fmt.Errorf("%w: empty message", errMalformed)
	}
	switch k := kind(b[0]); k {
	case kindPing, kindIndirectPing, kindAck, kindNack, kindSuspect, kindAlive, kindDead:
		return message{k, b[1:]}, nil
	default:
		return message{}, fmt.Errorf("%w: message type %d in a packet", errMalformed, k)
	}
}

// maxBrief bounds the messages of a stream that are not a whole state.
const maxBrief = 4 << 10

// checkStream judges what one side of a stream sent, and returns the members in
// it who are alive or have left, as the messages that would say the same.
func checkStream(b []byte, mostMembers int) ([]news, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty stream", errMalformed)
	}
	switch k := kind(b[0]); k {
	case kindPing, kindAck, kindError:
		if len(b) > maxBrief {
			return nil, fmt.Errorf("%w: message type %d of %d bytes", errMalformed, k, len(b))
		}
		return nil, nil
	case kindState:
		return checkState(b[1:], mostMembers)
	default:
		return nil, fmt.Errorf("%w: message type %d in a stream", errMalformed, k)
	}
}

// exchanged is one member in an exchange of states, as memberlist writes it.
type exchanged struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

func checkState(b []byte, most int) ([]news, error) {
	dec := codec.NewDecoderBytes(b, &codec.MsgpackHandle{})
	var header struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	if err := dec.Decode(&header); err != nil {
		return nil, fmt.Errorf("%w: header of a state: %w", errMalformed, err)
	}
	// Twice: the other side may remember gone members that this one does not.
	if header.Nodes < 0 || header.Nodes > 2*most || header.UserStateLen != 0 {
		return nil, fmt.Errorf("%w: state of %d members and %d bytes of user state", errMalformed, header.Nodes, header.UserStateLen)
	}
	var all []news
	for i := range header.Nodes {
		var e exchanged
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("%w: member %d of a state: %w", errMalformed, i+1, err)
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		switch e.State {
		case stateAliveOnWire:
			all = append(all, news{kindAlive, claim{Incarnation: e.Incarnation, Node: e.Name, Addr: e.Addr, Port: e.Port}})
		case stateLeftOnWire:
			all = append(all, news{kindDead, claim{Incarnation: e.Incarnation, Node: e.Name, From: e.Name}})
		}
	}
	if n := dec.NumBytesRead(); n != len(b) {
		return nil, fmt.Errorf("%w: %d bytes after a state", errMalformed, len(b)-n)
	}
	return all, nil
}

func (e *exchanged) check() error {
	if err := checkName(e.Name); err != nil {
		return fmt.Errorf("%w: name %w", errMalformed, err)
	}
	if len(e.Vsn) != 6 {
		return fmt.Errorf("%w: member %s has %d protocol versions, not 6", errMalformed, e.Name, len(e.Vsn))
	}
	if err := checkProtocol([6]uint8(e.Vsn)); err != nil {
		return fmt.Errorf("%w: member %s %w", errMalformed, e.Name, err)
	}
	if len(e.Meta) > MaxMeta || len(e.Addr) > 16 || e.State < 0 || e.State > stateLeftOnWire {
		return fmt.Errorf("%w: member %s has %d bytes of meta, %d of address, state %d", errMalformed, e.Name, len(e.Meta), len(e.Addr), e.State)
	}
	return nil
}

// checkProtocol refuses version ranges that exclude ours: memberlist narrows
// what the whole cluster speaks to what each member claims, so one such claim
// would end every exchange of states.
func checkProtocol(v [6]uint8) error {
	if v[0] > protocol || v[1] < protocol || v[2] != protocol || v[3] != 0 || v[4] != 0 || v[5] != 0 {
		return fmt.Errorf("speaks protocols %v, this one %d", v, protocol)
	}
	return nil
}
