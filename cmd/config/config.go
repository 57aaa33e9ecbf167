// Package config reads Copepod's settings: flags over COPEPOD_* variables over a
// file over the defaults of config.yaml. It knows names and types of settings;
// it never learns what they are for.
//
//	cfg, err := config.Load(config.Sources{Defaults: yaml, Flags: cmd.Flags(), Environ: os.Environ()})
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Config is config.yaml as a value; each field is described there.
type Config struct {
	DataDir   string     `mapstructure:"data-dir"`
	Bind      netip.Addr `mapstructure:"bind"`
	Advertise netip.Addr `mapstructure:"advertise"` // zero: not given
	API       struct {
		Port        uint16   `mapstructure:"port"`
		Names       []string `mapstructure:"names"`
		Audit       bool     `mapstructure:"audit"`
		AuditMaxMiB int      `mapstructure:"audit-max-mib"`
		AuditKeep   int      `mapstructure:"audit-keep"`
	} `mapstructure:"api"`
	Plane struct {
		Port       uint16        `mapstructure:"port"`
		Voters     int           `mapstructure:"voters"`
		HistoryMiB int           `mapstructure:"history-mib"`
		HistoryAge time.Duration `mapstructure:"history-age"`
	} `mapstructure:"plane"`
	Gossip struct {
		Port uint16 `mapstructure:"port"`
		Pace string `mapstructure:"pace"`
	} `mapstructure:"gossip"`
	Network struct {
		MeshPort    uint16       `mapstructure:"mesh-port"`
		PodCIDR     netip.Prefix `mapstructure:"pod-cidr"`
		ServiceCIDR netip.Prefix `mapstructure:"service-cidr"`
		NodePorts   string       `mapstructure:"node-ports"`
		Egress      bool         `mapstructure:"egress"`
	} `mapstructure:"network"`
	Node struct {
		Name    string        `mapstructure:"name"`
		Port    uint16        `mapstructure:"port"`
		MaxPods int           `mapstructure:"max-pods"`
		Drain   time.Duration `mapstructure:"drain"`
		CPU     string        `mapstructure:"cpu"`
		Memory  string        `mapstructure:"memory"`
	} `mapstructure:"node"`
	Logs struct {
		Level           string `mapstructure:"level"`
		MaxMiB          int    `mapstructure:"max-mib"`
		Keep            int    `mapstructure:"keep"`
		ContainerMaxMiB int    `mapstructure:"container-max-mib"`
		ContainerKeep   int    `mapstructure:"container-keep"`
	} `mapstructure:"logs"`
}

// Sources are where settings come from.
type Sources struct {
	Defaults []byte         // the YAML of config.yaml
	Flags    *pflag.FlagSet // flags that were set win; nil: none. --config names the file
	Environ  []string       // "COPEPOD_API_PORT=6444", as os.Environ gives it
	Home     string         // of the user; "~" in data-dir
}

const (
	envPrefix = "COPEPOD_"
	fileFlag  = "config"
	maxFile   = 1 << 20 // bytes
)

// Names lists every setting as a dotted path, sorted, from the defaults.
func Names(defaults []byte) ([]string, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(defaults)); err != nil {
		return nil, fmt.Errorf("config.yaml: %w", err)
	}
	names := v.AllKeys()
	slices.Sort(names)
	return names, nil
}

// AddFlags registers a flag for each setting ("api.port" as --api-port), and
// --config.
func AddFlags(flags *pflag.FlagSet, defaults []byte) error {
	names, err := Names(defaults)
	if err != nil {
		return err
	}
	usages := comments(defaults)
	flags.String(fileFlag, "", "settings file (default DATA-DIR/config.yaml, if it is there)")
	for _, n := range names {
		flags.String(flagName(n), "", usages[n])
	}
	return nil
}

// Load reads the settings.
func Load(src Sources) (Config, error) {
	names, err := Names(src.Defaults)
	if err != nil {
		return Config{}, err
	}
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(src.Defaults)); err != nil {
		return Config{}, err
	}
	given := map[string]string{} // setting → where it was given, for errors
	env, err := fromEnviron(src.Environ, names)
	if err != nil {
		return Config{}, err
	}
	early := func(name string) string { // what must be known before the file is
		if f := flag(src.Flags, flagName(name)); f != "" {
			return f
		}
		return env[name]
	}
	if err := mergeFile(v, src, names, given, early); err != nil {
		return Config{}, err
	}
	for n, value := range env {
		v.Set(n, value)
		given[n] = envName(n)
	}
	for _, n := range names {
		if src.Flags != nil && src.Flags.Changed(flagName(n)) {
			v.Set(n, flag(src.Flags, flagName(n)))
			given[n] = "--" + flagName(n)
		}
	}
	return decode(v, src, given)
}

// mergeFile lays the settings file over the defaults.
func mergeFile(v *viper.Viper, src Sources, names []string, given map[string]string, early func(string) string) error {
	path := flag(src.Flags, fileFlag)
	if path == "" {
		path = lookup(src.Environ, envPrefix+"CONFIG")
	}
	named := path != ""
	if !named {
		dir := early("data-dir")
		if dir == "" {
			dir = v.GetString("data-dir")
		}
		path = filepath.Join(expand(dir, src.Home), "config.yaml")
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settings file: %w", err)
	}
	if fi.Size() > maxFile {
		return fmt.Errorf("settings file %s: larger than 1 MiB", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("settings file: %w", err)
	}
	file := viper.New()
	file.SetConfigType("yaml")
	if err := file.ReadConfig(bytes.NewReader(data)); err != nil {
		return fmt.Errorf("settings file %s: %w", path, err)
	}
	for _, n := range file.AllKeys() {
		if !slices.Contains(names, n) {
			return fmt.Errorf("settings file %s: no setting %q; the nearest is %q", path, n, nearest(n, names))
		}
		given[n] = path
	}
	return v.MergeConfigMap(file.AllSettings())
}

// fromEnviron picks the settings out of the environment.
func fromEnviron(environ, names []string) (map[string]string, error) {
	found := map[string]string{}
	vars := map[string]string{} // variable → setting
	for _, n := range names {
		vars[envName(n)] = n
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envPrefix+"CONFIG" {
			continue
		}
		setting, ok := vars[name]
		if !ok {
			known := make([]string, 0, len(vars))
			for k := range vars {
				known = append(known, k)
			}
			slices.Sort(known)
			return nil, fmt.Errorf("environment: no setting %s; the nearest is %s", name, nearest(name, known))
		}
		found[setting] = value
	}
	return found, nil
}

// decode turns the settings into a Config and checks what types cannot say.
func decode(v *viper.Viper, src Sources, given map[string]string) (Config, error) {
	var cfg Config
	hook := mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(),
		mapstructure.TextUnmarshallerHookFunc(),
		mapstructure.StringToSliceHookFunc(","),
	)
	for _, n := range v.AllKeys() { // one at a time, so that an error names its setting
		one := viper.New()
		one.Set(n, v.Get(n))
		if err := one.Unmarshal(&cfg, viper.DecodeHook(hook)); err != nil {
			return Config{}, bad(n, v.GetString(n), given, reason(err))
		}
	}
	cfg.DataDir = expand(cfg.DataDir, src.Home)
	if !filepath.IsAbs(cfg.DataDir) {
		abs, err := filepath.Abs(cfg.DataDir)
		if err != nil {
			return Config{}, err
		}
		cfg.DataDir = abs
	}
	return cfg, cfg.check(given)
}

// Capacity is what node.cpu and node.memory say, where they do.
func (c Config) Capacity() corev1.ResourceList {
	list := corev1.ResourceList{}
	for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: c.Node.CPU, corev1.ResourceMemory: c.Node.Memory} {
		if q, err := resource.ParseQuantity(value); err == nil {
			list[name] = q
		}
	}
	return list
}

func bad(name, value string, given map[string]string, why string) error {
	where := given[name]
	if where == "" {
		where = "default"
	}
	return fmt.Errorf("setting %s (%s): %q: %s", name, where, value, why)
}

// reason is the innermost line of a decoding error, without the library's frame.
func reason(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if _, after, ok := strings.Cut(last, "' "); ok {
		last = after
	}
	return last
}

// comments takes the help text of each setting from the comment above it.
func comments(defaults []byte) map[string]string {
	var doc yaml.Node
	if yaml.Unmarshal(defaults, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	found := map[string]string{}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			name := prefix + key.Value
			if value.Kind == yaml.MappingNode {
				walk(name+".", value)
				continue
			}
			text := strings.Join(strings.Fields(strings.ReplaceAll(key.HeadComment, "#", "")), " ")
			if first, _, ok := strings.Cut(text, ". "); ok {
				text = first
			}
			found[name] = fmt.Sprintf("%s (default %s)", strings.TrimSuffix(text, "."), strings.TrimSpace(show(value)))
		}
	}
	walk("", doc.Content[0])
	return found
}

func show(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Value != "" {
		return n.Value
	}
	return "none"
}

func flagName(setting string) string { return strings.ReplaceAll(setting, ".", "-") }

func envName(setting string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(setting))
}

func flag(flags *pflag.FlagSet, name string) string {
	if flags == nil || flags.Lookup(name) == nil {
		return ""
	}
	return flags.Lookup(name).Value.String()
}

func lookup(environ []string, name string) string {
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

func expand(path, home string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(home, strings.TrimPrefix(path, "~"))
	}
	return path
}
