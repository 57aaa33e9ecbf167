package gossip_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"copepod/gossip"
)

var update = flag.Bool("update", false, "write what happens into testdata")

// A script in testdata is commands behind "> " and, below each wait, what
// changed for whom. Time is that of the members, so the outcome does not hang on the
// machine; the order in which members notice is not part of it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, string(want)) })
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	c := newCluster(t)
	defer c.end()
	var out strings.Builder
	known := map[string]string{}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "#") {
			out.WriteString(line)
			continue
		}
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "> ")
		if !ok {
			continue
		}
		fmt.Fprintf(&out, "> %s\n", command)
		obey(t, c, strings.Fields(command))
		if !strings.HasPrefix(command, "wait") {
			continue // who noticed what by now is chance
		}
		now := views(c)
		for _, name := range c.names() {
			if now[name] != known[name] {
				fmt.Fprintf(&out, "%s sees %s\n", name, now[name])
			}
		}
		known = now
	}
	return out.String()
}

// obey runs: start N, stop A, isolate A, split A… from B…, heal, zone A Z, or
// wait D.
func obey(t *testing.T, c *cluster, words []string) {
	t.Helper()
	rest := words[1:]
	switch words[0] {
	case "start":
		n, err := strconv.Atoi(rest[0])
		if err != nil {
			t.Fatal(err)
		}
		c.startAll(n)
	case "stop":
		c.stop(rest[0])
	case "isolate":
		c.net.Isolate(rest[0])
	case "split":
		i := slices.Index(rest, "from")
		c.net.Split(rest[:i], rest[i+1:])
	case "heal":
		c.net.Heal()
	case "zone":
		if err := c.members[rest[0]].SetMeta(gossip.Meta{Zone: rest[1]}); err != nil {
			t.Fatal(err)
		}
	case "wait":
		d, err := time.ParseDuration(rest[0])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
		synctest.Wait()
	default:
		t.Fatalf("no such command: %v", words)
	}
}

// views is what each member thinks of all, as one line.
func views(c *cluster) map[string]string {
	all := map[string]string{}
	for _, name := range c.names() {
		var line []string
		for _, m := range c.members[name].Members() {
			word := m.Name + "=" + m.State.String()
			if m.Meta.Zone != "" {
				word += "@" + m.Meta.Zone
			}
			line = append(line, word)
		}
		all[name] = strings.Join(line, " ")
	}
	return all
}
