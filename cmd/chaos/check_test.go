package chaos

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
	"k8s.io/apimachinery/pkg/watch"
)

// event is what a watch tells of one register.
type event struct {
	kind  watch.EventType
	key   string
	value string
	rev   uint64
}

// record is what watches told, in the order of revisions: all that ever happened
// to the registers.
type record []event

// told is what one watcher was told.
type told struct {
	name   string
	events []event
}

// listing is a linearizable list of all registers.
type listing struct {
	call  int64
	rev   uint64
	items map[string]output
}

// merge checks what each watcher was told against what the others were, and
// returns the whole. Each was to be told everything.
func merge(watchers []told) (record, []string) {
	var faults []string
	byRev := map[uint64]event{}
	for _, w := range watchers {
		var last uint64
		state := map[string]event{}
		for i, e := range w.events {
			if e.rev <= last {
				faults = append(faults, fmt.Sprintf("watch at %s: event %d %+v is not after revision %d: disorder or repetition", w.name, i, e, last))
			}
			last = max(last, e.rev)
			if known, ok := byRev[e.rev]; ok && known != e {
				faults = append(faults, fmt.Sprintf("watch at %s: %+v, elsewhere %+v", w.name, e, known))
			}
			byRev[e.rev] = e
			before, exists := state[e.key]
			if exists == (e.kind == watch.Added) {
				faults = append(faults, fmt.Sprintf("watch at %s: %+v after %+v: a gap", w.name, e, before))
			}
			if e.kind == watch.Deleted && before.value != e.value {
				faults = append(faults, fmt.Sprintf("watch at %s: %+v after %+v: not what was there", w.name, e, before))
			}
			state[e.key] = e
			if e.kind == watch.Deleted {
				delete(state, e.key)
			}
		}
	}
	all := make(record, 0, len(byRev))
	for _, e := range byRev {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b event) int { return cmp.Compare(a.rev, b.rev) })
	for _, w := range watchers {
		have := map[uint64]bool{}
		for _, e := range w.events {
			have[e.rev] = true
		}
		for _, e := range all {
			if !have[e.rev] {
				faults = append(faults, fmt.Sprintf("watch at %s: was not told of %+v", w.name, e))
			}
		}
	}
	return all, faults
}

// settle replaces writes of unknown outcome by what the record tells of them, and
// checks that each acknowledged write is in the record, and none that was refused,
// or twice.
func (r record) settle(history []porcupine.Operation) ([]porcupine.Operation, []string) {
	var faults []string
	written := map[string]event{} // by key and value
	for _, e := range r {
		if e.kind == watch.Deleted {
			continue
		}
		id := e.key + " " + e.value
		if before, twice := written[id]; twice {
			faults = append(faults, fmt.Sprintf("written twice: %+v and %+v", before, e))
		}
		written[id] = e
	}
	var settled []porcupine.Operation
	for _, op := range history {
		in, out := op.Input.(input), op.Output.(output)
		e, happened := written[in.key+" "+in.value]
		if in.kind == create || in.kind == update {
			delete(written, in.key+" "+in.value)
		} else {
			happened = false
		}
		switch {
		case out.answer == unknown && in.kind == remove:
			op.Return = math.MaxInt64
		case out.answer == unknown && !happened:
			continue // a get, or a write that never was
		case out.answer == unknown:
			op.Output, op.Return = output{answer: done, value: in.value, rev: e.rev}, math.MaxInt64
		case (in.kind == create || in.kind == update) && (out.answer == done) != happened:
			faults = append(faults, fmt.Sprintf("%+v → %+v, in the record: %v %+v", in, out, happened, e))
		case happened && e.rev != out.rev:
			faults = append(faults, fmt.Sprintf("%+v → %+v, in the record at another revision: %+v", in, out, e))
		}
		settled = append(settled, op)
	}
	for _, e := range written {
		faults = append(faults, fmt.Sprintf("nobody wrote %+v", e))
	}
	return settled, faults
}

// ordered checks that revisions follow real time over all keys: a write that began
// after another was acknowledged has the greater one.
func ordered(history []porcupine.Operation) []string {
	var faults []string
	type end struct {
		at  int64
		rev uint64
		op  porcupine.Operation
	}
	var ends []end
	for _, op := range history {
		if out := op.Output.(output); out.answer == done && out.rev > 0 {
			ends = append(ends, end{op.Return, out.rev, op})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.at, b.at) })
	starts := slices.Clone(history)
	slices.SortFunc(starts, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var before end // the greatest revision that was acknowledged
	for _, op := range starts {
		for len(ends) > 0 && ends[0].at < op.Call {
			if ends[0].rev > before.rev {
				before = ends[0]
			}
			ends = ends[1:]
		}
		in, out := op.Input.(input), op.Output.(output)
		if out.answer == done && (in.kind == create || in.kind == update) && out.rev <= before.rev {
			faults = append(faults, fmt.Sprintf("%+v → %+v began after %+v → %+v was acknowledged", in, out, before.op.Input, before.op.Output))
		}
	}
	return faults
}

// listed checks that each list is what the record says was there at its revision,
// and that it is not older than what was acknowledged before.
func (r record) listed(history []porcupine.Operation, lists []listing) []string {
	var faults []string
	for _, l := range lists {
		state := map[string]output{}
		for _, e := range r {
			if e.rev > l.rev {
				break
			}
			state[e.key] = output{value: e.value, rev: e.rev}
			if e.kind == watch.Deleted {
				delete(state, e.key)
			}
		}
		if len(state) != len(l.items) {
			faults = append(faults, fmt.Sprintf("list at %d has %d items, the record %d", l.rev, len(l.items), len(state)))
		}
		for key, want := range state {
			if got := l.items[key]; got != want {
				faults = append(faults, fmt.Sprintf("list at %d: %s is %+v, in the record %+v", l.rev, key, got, want))
			}
		}
		for _, op := range history {
			if out := op.Output.(output); op.Return < l.call && out.answer == done && out.rev > l.rev {
				faults = append(faults, fmt.Sprintf("list at %d began after %+v → %+v was acknowledged", l.rev, op.Input, out))
			}
		}
	}
	return faults
}

// linearizable checks each key by itself. unsure are keys that were not decided in time.
func linearizable(history []porcupine.Operation, patience time.Duration) (faults []string, unsure int) {
	deadline := time.Now().Add(patience)
	for _, part := range registers.Partition(history) {
		switch porcupine.CheckOperationsTimeout(registers, part, max(time.Until(deadline), time.Second)) {
		case porcupine.Illegal:
			slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
			text := fmt.Sprintf("%d operations on %s are not linearizable:", len(part), part[0].Input.(input).key)
			for _, op := range part {
				text += fmt.Sprintf("\n  %12d %12d client %d: %s", op.Call/1000, op.Return/1000, op.ClientId, registers.DescribeOperation(op.Input, op.Output))
			}
			faults = append(faults, text)
		case porcupine.Unknown:
			unsure++
		}
	}
	return faults, unsure
}
