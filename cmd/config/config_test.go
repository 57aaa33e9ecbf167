package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func defaults(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func load(t *testing.T, file string, environ []string, args ...string) (Config, error) {
	t.Helper()
	home := t.TempDir()
	flags := pflag.NewFlagSet("up", pflag.ContinueOnError)
	if err := AddFlags(flags, defaults(t)); err != nil {
		t.Fatal(err)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if file != "" {
		if err := os.MkdirAll(filepath.Join(home, ".copepod"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".copepod", "config.yaml"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(Sources{Defaults: defaults(t), Flags: flags, Environ: environ, Home: home})
}

func TestDefaultsDecode(t *testing.T) {
	cfg, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.API.Port != 6443 || cfg.Bind.String() != "127.0.0.1" || cfg.Plane.HistoryAge.Minutes() != 10 || !strings.HasSuffix(cfg.DataDir, "/.copepod") {
		t.Errorf("defaults are %+v", cfg)
	}
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := "api:\n  port: 1\nnode:\n  port: 1\n  name: file\nlogs:\n  level: warn\n"
	env := []string{"COPEPOD_API_PORT=2", "COPEPOD_NODE_PORT=2", "PATH=/bin"}
	cfg, err := load(t, file, env, "--api-port", "3")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.API.Port != 3 || cfg.Node.Port != 2 || cfg.Node.Name != "file" || cfg.Logs.Level != "warn" || cfg.Logs.Keep != 5 {
		t.Errorf("got api.port %d, node.port %d, node.name %q, logs.level %q, logs.keep %d; want 3, 2, file, warn, 5",
			cfg.API.Port, cfg.Node.Port, cfg.Node.Name, cfg.Logs.Level, cfg.Logs.Keep)
	}
}

func TestWrongSettingsNameThemselvesAndTheWayOut(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env, args  []string
		want       []string
	}{
		{name: "unknown in file", file: "api:\n  prot: 1\n", want: []string{`"api.prot"`, `nearest is "api.port"`, "config.yaml"}},
		{name: "unknown in environment", env: []string{"COPEPOD_NODE_NAM=x"}, want: []string{"COPEPOD_NODE_NAM", "nearest is COPEPOD_NODE_NAME"}},
		{name: "word for a port", file: "api:\n  port: many\n", want: []string{"api.port", "config.yaml", "many"}},
		{name: "port too large", args: []string{"--api-port", "70000"}, want: []string{"api.port", "--api-port", "70000"}},
		{name: "no address", env: []string{"COPEPOD_BIND=here"}, want: []string{"bind", "COPEPOD_BIND", "here"}},
		{name: "level", args: []string{"--logs-level", "loud"}, want: []string{"logs.level", "debug, info, warn or error"}},
		{name: "range", args: []string{"--network-node-ports", "9"}, want: []string{"network.node-ports", "FIRST-LAST"}},
		{name: "duration", args: []string{"--plane-history-age", "soon"}, want: []string{"plane.history-age", "soon"}},
		{name: "no YAML", file: "{", want: []string{"config.yaml"}},
		{name: "named file missing", args: []string{"--config", "/nowhere/x.yaml"}, want: []string{"/nowhere/x.yaml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.file, tt.env, tt.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

func TestEverySettingHasAHelpText(t *testing.T) {
	flags := pflag.NewFlagSet("up", pflag.ContinueOnError)
	if err := AddFlags(flags, defaults(t)); err != nil {
		t.Fatal(err)
	}
	names, err := Names(defaults(t))
	if err != nil || len(names) < 15 {
		t.Fatalf("settings %v, %v", names, err)
	}
	texts := comments(defaults(t))
	for _, n := range names {
		if len(texts[n]) < 10 {
			t.Errorf("setting %s has no comment in config.yaml", n)
		}
	}
}
