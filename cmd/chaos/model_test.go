package chaos

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// kind is what a client asks of one ConfigMap.
type kind string

const (
	get    kind = "get"
	create kind = "create"
	update kind = "update" // at the revision expect; whatever is there if that is 0
	remove kind = "remove" // likewise
)

// answer is what the client was told.
type answer string

const (
	done     answer = "done"
	missing  answer = "missing"  // 404
	conflict answer = "conflict" // 409: it exists, or its revision is another
	refused  answer = "refused"  // 400, 403, 429: nothing was done
	unknown  answer = "unknown"  // anything else: maybe it was done, maybe it will be
)

type (
	input struct {
		kind   kind
		key    string
		value  string // unique to this write
		expect uint64
	}
	output struct {
		answer answer
		value  string // that a get found
		rev    uint64 // of what was found or written
	}
	// cell is one ConfigMap. rev is that of the last write, also if it is absent.
	cell struct {
		exists bool
		value  string
		rev    uint64
	}
)

// registers is the sequential meaning of ConfigMaps in the Kubernetes API, as far
// as clients here use it. Revisions come from outside; a later one is greater.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(input).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range byKey {
			parts = append(parts, p)
		}
		return parts
	},
	Init:              func() any { return cell{} },
	Step:              func(state, in, out any) (bool, any) { return step(state.(cell), in.(input), out.(output)) },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v → %+v", in, out) },
}

func step(s cell, i input, o output) (bool, any) {
	met := s.exists && (i.expect == 0 || i.expect == s.rev)
	written := cell{true, i.value, o.rev}
	switch o.answer {
	case refused:
		return true, s
	case missing:
		return !s.exists, s
	case conflict:
		if i.kind == create {
			return s.exists, s
		}
		return i.expect == 0 || !met, s // without an expectation it means: others were quicker, again and again
	case unknown:
		if i.kind == remove && met { // that it never happened is the same as that it happens last
			return true, cell{rev: s.rev}
		}
		return true, s // writes of unknown outcome are settled before; see settle
	}
	switch i.kind {
	case get:
		return s.exists && o.value == s.value && o.rev == s.rev, s
	case create:
		return !s.exists && o.rev > s.rev, written
	case update:
		return met && o.rev > s.rev, written
	case remove:
		return met, cell{rev: s.rev}
	}
	panic("chaos: no such operation: " + i.kind)
}
