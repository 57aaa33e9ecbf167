package cmd

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of our own parts each part may import.
var arrows = map[string][]string{
	"wasmrt": {}, "gossip": {}, "registry": {}, // leaves
	"node":    {"wasmrt", "registry"},
	"plane":   {"gossip"},
	"cmd":     {"node", "plane", "wasmrt", "gossip", "registry"},
	"samples": {}, // guests: they run inside, they import nothing of ours
	"":        {"cmd"},
}

// bans says which foreign imports a part, or a package of it, does without.
var bans = map[string][]string{
	"wasmrt":         {"k8s.io/"},
	"gossip":         {"k8s.io/"},
	"registry":       {"k8s.io/"},
	"plane/store":    {"k8s.io/"},
	"node":           {"k8s.io/apiserver"},
	"wasmrt/rewrite": {"github.com/tetratelabs/wazero"},
}

func TestImportsFollowTheArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}{{range .Imports}} {{.}}{{end}}", "copepod/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, _ := strings.CutPrefix(strings.TrimPrefix(fields[0], "copepod"), "/")
		part, _, _ := strings.Cut(pkg, "/")
		may, known := arrows[part]
		if !known {
			t.Errorf("%s: the part %q has no row in arrows", fields[0], part)
		}
		for _, imp := range fields[1:] {
			if own, ok := strings.CutPrefix(imp, "copepod/"); ok {
				to, _, _ := strings.Cut(own, "/")
				if to != part && !slices.Contains(may, to) {
					t.Errorf("%s imports %s: %q may import only %v", fields[0], imp, part, may)
				}
			}
			for where, prefixes := range bans {
				if pkg != where && !strings.HasPrefix(pkg, where+"/") {
					continue
				}
				for _, p := range prefixes {
					if strings.HasPrefix(imp, p) {
						t.Errorf("%s imports %s: %s does without %s", fields[0], imp, where, p)
					}
				}
			}
		}
	}
}
