package chaos

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"k8s.io/apimachinery/pkg/watch"
)

// A checker that finds nothing proves nothing, so these show that it finds.

func op(call, back int64, in input, out output) porcupine.Operation {
	in.key = "k"
	return porcupine.Operation{ClientId: int(call), Input: in, Call: call, Output: out, Return: back}
}

func made(value string, rev uint64) (input, output) {
	return input{kind: create, value: value}, output{answer: done, value: value, rev: rev}
}

func TestStaleReadsAndLostUpdatesAreNotLinearizable(t *testing.T) {
	createdIn, created := made("a", 1)
	first := op(1, 2, createdIn, created)
	updated := op(3, 4, input{kind: update, value: "b", expect: 1}, output{answer: done, value: "b", rev: 2})
	for _, test := range []struct {
		name string
		last porcupine.Operation
		fine bool
	}{
		{"a read of what is there", op(5, 6, input{kind: get}, output{answer: done, value: "b", rev: 2}), true},
		{"a read of what was there", op(5, 6, input{kind: get}, output{answer: done, value: "a", rev: 1}), false},
		{"a read during the update", op(3, 6, input{kind: get}, output{answer: done, value: "a", rev: 1}), true},
		{"a read of nothing", op(5, 6, input{kind: get}, output{answer: missing}), false},
		{"a second update at the same revision", op(5, 6, input{kind: update, value: "c", expect: 1}, output{answer: done, value: "c", rev: 3}), false},
		{"a conflict with what was there", op(5, 6, input{kind: update, value: "c", expect: 1}, output{answer: conflict}), true},
		{"a conflict with nobody", op(5, 6, input{kind: update, value: "c", expect: 2}, output{answer: conflict}), false},
		{"a second creation", op(5, 6, input{kind: create, value: "c"}, output{answer: done, value: "c", rev: 3}), false},
		{"a removal at an old revision", op(5, 6, input{kind: remove, expect: 1}, output{answer: done}), false},
		{"a removal of unknown outcome", op(5, math.MaxInt64, input{kind: remove, expect: 2}, output{answer: unknown}), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			faults, unsure := linearizable([]porcupine.Operation{first, updated, test.last}, time.Minute)
			if (len(faults) == 0) != test.fine || unsure > 0 {
				t.Errorf("fine is %v, unsure %d, want fine %v: %v", len(faults) == 0, unsure, test.fine, faults)
			}
		})
	}
}

func TestRemovalOfUnknownOutcomeMayHaveHappenedOrNot(t *testing.T) {
	createdIn, created := made("a", 1)
	for _, found := range []output{{answer: missing}, {answer: done, value: "a", rev: 1}} {
		faults, _ := linearizable([]porcupine.Operation{
			op(1, 2, createdIn, created),
			op(3, math.MaxInt64, input{kind: remove, expect: 1}, output{answer: unknown}),
			op(5, 6, input{kind: get}, found),
		}, time.Minute)
		if len(faults) > 0 {
			t.Errorf("a get that finds %+v: %v", found, faults)
		}
	}
}

var fine = []event{
	{watch.Added, "k", "a", 1}, {watch.Modified, "k", "b", 2}, {watch.Added, "l", "c", 3}, {watch.Deleted, "k", "b", 4}, {watch.Added, "k", "d", 5},
}

func TestWatchesThatToldTheSameAreFine(t *testing.T) {
	record, faults := merge([]told{{"n1", fine}, {"n2", fine}})
	if len(faults) > 0 || !slices.Equal(record, fine) {
		t.Errorf("%v %v", record, faults)
	}
}

func TestGapsRepetitionsAndDisorderOfWatchesAreFound(t *testing.T) {
	swapped := slices.Clone(fine)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	other := slices.Clone(fine)
	other[1].value = "z"
	for name, test := range map[string]struct {
		events []event
		want   string
	}{
		"gap":                {slices.Delete(slices.Clone(fine), 1, 2), "was not told of"},
		"no end":             {fine[:4], "was not told of"},
		"gap before a start": {slices.Delete(slices.Clone(fine), 3, 4), "a gap"},
		"repetition":         {slices.Insert(slices.Clone(fine), 2, fine[1]), "disorder or repetition"},
		"disorder":           {swapped, "disorder or repetition"},
		"another value":      {other, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, faults := merge([]told{{"n1", fine}, {"n2", test.events}}); !strings.Contains(strings.Join(faults, "\n"), test.want) {
				t.Errorf("%q is not found: %v", test.want, faults)
			}
		})
	}
}

func TestWritesAreSettledByTheRecord(t *testing.T) {
	record := record{{watch.Added, "k", "a", 1}, {watch.Modified, "k", "b", 2}}
	aIn, a := made("a", 1)
	b := input{kind: update, value: "b", expect: 1}
	lost := op(5, 6, input{kind: update, value: "c"}, output{answer: done, value: "c", rev: 3})
	history, faults := record.settle([]porcupine.Operation{
		op(1, 2, aIn, a),
		op(3, 4, b, output{answer: unknown}),
		op(3, 4, input{kind: update, value: "never"}, output{answer: unknown}),
	})
	if len(faults) > 0 || len(history) != 2 || history[1].Output != (output{answer: done, value: "b", rev: 2}) {
		t.Errorf("%v %v", history, faults)
	}
	for name, test := range map[string]struct {
		history []porcupine.Operation
		want    string
	}{
		"an acknowledged write that is lost": {[]porcupine.Operation{op(1, 2, aIn, a), op(3, 4, b, output{answer: done, value: "b", rev: 2}), lost}, "in the record: false"},
		"a refused write that happened":      {[]porcupine.Operation{op(1, 2, aIn, a), op(3, 4, b, output{answer: conflict})}, "in the record: true"},
		"a write of nobody":                  {[]porcupine.Operation{op(1, 2, aIn, a)}, "nobody wrote"},
	} {
		if _, faults := record.settle(test.history); !strings.Contains(strings.Join(faults, "\n"), test.want) {
			t.Errorf("%s is not found: %v", name, faults)
		}
	}
}

func TestRevisionsAgainstTimeAndOldListsAreFound(t *testing.T) {
	aIn, a := made("a", 5)
	history := []porcupine.Operation{op(1, 2, aIn, a)}
	late := op(3, 4, input{kind: update, value: "b"}, output{answer: done, value: "b", rev: 4})
	if faults := ordered(append(history, late)); len(faults) != 1 {
		t.Errorf("a later write with a smaller revision: %v", faults)
	}
	record := record{{watch.Added, "k", "a", 5}}
	item := map[string]output{"k": {value: "a", rev: 5}}
	if faults := record.listed(history, []listing{{call: 3, rev: 5, items: item}}); len(faults) > 0 {
		t.Errorf("a list of what is there: %v", faults)
	}
	for name, l := range map[string]listing{"old": {call: 3, rev: 4}, "without an item": {call: 3, rev: 5}, "with one too early": {call: 0, rev: 4, items: item}} {
		if faults := record.listed(history, []listing{l}); len(faults) == 0 {
			t.Errorf("a list that is %s is not found", name)
		}
	}
}
