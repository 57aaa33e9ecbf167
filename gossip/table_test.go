package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Each row is news in order, and the events and the state that they make.
func TestTableTurnsNewsIntoEvents(t *testing.T) {
	for _, row := range []struct {
		name string
		news string // suspect@N, alive@N, goodbye@N with incarnation N; join, end
		want string
	}{
		{"silence", "join suspect@1 end", "joined suspected failed: failed"},
		{"objection", "join alive@1 suspect@1 alive@2", "joined suspected recovered: alive"},
		{"stale suspicion", "join alive@2 suspect@1", "joined: alive"},
		{"second suspicion", "join suspect@1 suspect@1", "joined suspected: suspect"},
		{"old sign of life", "join suspect@3 alive@3", "joined suspected: suspect"},
		{"goodbye", "join alive@1 goodbye@1 end", "joined left: left"},
		{"goodbye of a suspect", "join suspect@1 goodbye@1 end", "joined suspected left: left"},
		{"goodbye of a former life", "join alive@5 goodbye@4 end", "joined failed: failed"},
		{"goodbye that was refuted", "join alive@1 goodbye@1 alive@2 end", "joined failed: failed"},
		{"second end", "join end end", "joined failed: failed"},
		{"return after failing", "join alive@7 end join suspect@1", "joined failed joined suspected: suspect"},
		{"return after goodbye", "join goodbye@1 end join end", "joined left joined failed: failed"},
		{"news of nobody", "suspect@1 alive@1 goodbye@1 end", ": "},
		{"sign of life of the dead", "join end alive@9", "joined failed: failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			table, now := newTable(10), time.Unix(0, 0)
			var events []string
			for _, news := range strings.Fields(row.news) {
				var n uint32
				verb, number, _ := strings.Cut(news, "@")
				_, _ = fmt.Sscan(number, &n)
				now = now.Add(time.Second)
				var e Event
				var ok bool
				switch verb {
				case "join":
					e, ok = table.joined(Member{Name: "m"}, now), true
				case "end":
					e, ok = table.ended("m", now)
				case "suspect":
					e, ok = table.suspected("m", n, now)
				case "alive":
					e, ok = table.alive("m", n, now)
				case "goodbye":
					table.saysGoodbye("m", n)
				default:
					t.Fatalf("no such news: %s", news)
				}
				if ok {
					events = append(events, e.Kind.String())
				}
			}
			state := ""
			for _, m := range table.members() {
				state = m.State.String()
			}
			if got := strings.Join(events, " ") + ": " + state; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestTableThatIsFullForgetsTheGoneFirst(t *testing.T) {
	table, now := newTable(3), time.Unix(0, 0)
	for _, name := range []string{"a", "b", "c"} {
		table.joined(Member{Name: name}, now)
	}
	if table.room("d") {
		t.Error("there is room beyond the limit")
	}
	if !table.room("a") {
		t.Error("there is no room for one who is there")
	}
	table.ended("b", now.Add(2*time.Second))
	table.ended("c", now.Add(time.Second))
	if !table.room("d") || table.records["c"] != nil || table.records["b"] == nil {
		t.Errorf("got %v, want c to give way", table.members())
	}
	table.forget(now.Add(3 * time.Second))
	if got := len(table.members()); got != 1 {
		t.Errorf("got %d members, want only the one who is there", got)
	}
}
