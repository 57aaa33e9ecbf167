package pods

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/node/downward"
)

// Objects gives the ConfigMaps and Secrets that pods refer to. *objects.Store is
// one.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// environment is the environment of a container as it is built: later settings
// replace earlier ones, and may refer to them.
type environment struct {
	ctx     context.Context
	src     downward.Source
	objects Objects
	c       *v1.Container
	values  map[string]string
	order   []string
	skipped []string // names in envFrom sources that no variable can have
}

// buildEnvironment collects a container's variables. An error is what keeps the
// container from being created, in the kubelet's words.
func buildEnvironment(ctx context.Context, src downward.Source, objects Objects, c *v1.Container, services []*v1.Service) (*environment, error) {
	e := &environment{ctx: ctx, src: src, objects: objects, c: c, values: map[string]string{}}
	e.set("HOSTNAME", hostname(src.Pod))
	for name, value := range serviceVariables(src.Pod, services) {
		e.set(name, value)
	}
	for i := range c.EnvFrom {
		if err := e.from(&c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		value, ok, err := e.value(v)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

// hostname is what a pod calls itself.
func hostname(pod *v1.Pod) string {
	if pod.Spec.Hostname != "" {
		return pod.Spec.Hostname
	}
	return pod.Name
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

// list is the environment as a program sees it.
func (e *environment) list() []string {
	out := make([]string, 0, len(e.order))
	for _, name := range e.order {
		out = append(out, name+"="+e.values[name])
	}
	return out
}

// from adds everything of a ConfigMap or Secret.
func (e *environment) from(source *v1.EnvFromSource) error {
	data := map[string]string{}
	switch {
	case source.ConfigMapRef != nil:
		cm, err := e.objects.ConfigMap(e.ctx, e.src.Pod.Namespace, source.ConfigMapRef.Name)
		if err != nil {
			return unlessOptional(err, source.ConfigMapRef.Optional)
		}
		data = cm.Data
	case source.SecretRef != nil:
		s, err := e.objects.Secret(e.ctx, e.src.Pod.Namespace, source.SecretRef.Name)
		if err != nil {
			return unlessOptional(err, source.SecretRef.Optional)
		}
		for k, v := range s.Data {
			data[k] = string(v)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		name := source.Prefix + key
		if !variableName(name) {
			e.skipped = append(e.skipped, name)
			continue
		}
		e.set(name, data[key])
	}
	return nil
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// variableName says whether a name can be a variable's: printable ASCII but '='.
func variableName(name string) bool {
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' || name[i] == '=' {
			return false
		}
	}
	return name != ""
}

// value is the value of one variable; ok is false if it is to be left out.
func (e *environment) value(v *v1.EnvVar) (value string, ok bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, e.lookup), true, nil
	case from.FieldRef != nil:
		value, err = e.src.Field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = e.src.Resource(e.c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := e.objects.ConfigMap(e.ctx, e.src.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		value, found := cm.Data[ref.Key]
		return value, found, e.missing(found, ref.Optional, ref.Key, "ConfigMap", ref.Name)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := e.objects.Secret(e.ctx, e.src.Pod.Namespace, ref.Name)
		if err != nil {
			return "", false, unlessOptional(err, ref.Optional)
		}
		data, found := s.Data[ref.Key]
		return string(data), found, e.missing(found, ref.Optional, ref.Key, "Secret", ref.Name)
	}
	return "", false, fmt.Errorf("env %q: its source is of a kind that is not supported", v.Name)
}

func (e *environment) missing(found bool, optional *bool, key, kind, name string) error {
	if found || (optional != nil && *optional) {
		return nil
	}
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, e.src.Pod.Namespace, name)
}

func (e *environment) lookup(name string) (string, bool) {
	value, ok := e.values[name]
	return value, ok
}

// subPath expands a subPathExpr, in which every variable must be known.
func (e *environment) subPath(expr string) (string, error) {
	var unknown []string
	out := expand(expr, func(name string) (string, bool) {
		value, ok := e.values[name]
		if !ok {
			unknown = append(unknown, name)
		}
		return value, ok
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("missing value for %q in subPathExpr %q", unknown[0], expr)
	}
	return out, nil
}

// expandAll expands command or arguments.
func (e *environment) expandAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = expand(w, e.lookup)
	}
	return out
}

// expand replaces $(NAME) by what lookup knows of it, and leaves the rest: a
// name that is unknown stays as it is, and $$ is a dollar sign that is not one
// of ours.
func expand(s string, lookup func(string) (string, bool)) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			name, _, closed := strings.Cut(s[i+2:], ")")
			if !closed {
				b.WriteString("$(")
				i++
				continue
			}
			if value, ok := lookup(name); ok {
				b.WriteString(value)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += len("()") + len(name)
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

// serviceVariables are the variables by which Kubernetes tells of the Services
// that a pod can reach: those of its namespace, and the API server's.
func serviceVariables(pod *v1.Pod, services []*v1.Service) map[string]string {
	out := map[string]string{}
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	for _, svc := range services {
		ip := svc.Spec.ClusterIP
		master := svc.Namespace == "default" && svc.Name == "kubernetes"
		if ip == "" || ip == v1.ClusterIPNone || len(svc.Spec.Ports) == 0 || !(master || links && svc.Namespace == pod.Namespace) {
			continue
		}
		prefix := strings.ToUpper(strings.ReplaceAll(svc.Name, "-", "_"))
		out[prefix+"_SERVICE_HOST"] = ip
		out[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(svc.Spec.Ports[0].Port))
		for i := range svc.Spec.Ports {
			if port := &svc.Spec.Ports[i]; port.Name != "" {
				name := strings.ToUpper(strings.ReplaceAll(port.Name, "-", "_"))
				out[prefix+"_SERVICE_PORT_"+name] = strconv.Itoa(int(port.Port))
			}
		}
	}
	return out
}
