package volume

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/node/downward"
)

// file is what a volume holds under one path.
type file struct {
	data []byte
	mode int32
}

// content is a set of files by relative path.
type content map[string]file

const defaultMode int32 = 0o644

// projections turns every kind of volume that has content into the sources of a
// projected one, so that there is one way to collect them.
func projections(v *v1.Volume) ([]v1.VolumeProjection, int32, bool) {
	mode := func(m *int32) int32 {
		if m == nil {
			return defaultMode
		}
		return *m
	}
	switch {
	case v.ConfigMap != nil:
		return []v1.VolumeProjection{{ConfigMap: &v1.ConfigMapProjection{
			LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items, Optional: v.ConfigMap.Optional,
		}}}, mode(v.ConfigMap.DefaultMode), true
	case v.Secret != nil:
		return []v1.VolumeProjection{{Secret: &v1.SecretProjection{
			LocalObjectReference: v1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items, Optional: v.Secret.Optional,
		}}}, mode(v.Secret.DefaultMode), true
	case v.DownwardAPI != nil:
		return []v1.VolumeProjection{{DownwardAPI: &v1.DownwardAPIProjection{Items: v.DownwardAPI.Items}}}, mode(v.DownwardAPI.DefaultMode), true
	case v.Projected != nil:
		return v.Projected.Sources, mode(v.Projected.DefaultMode), true
	}
	return nil, 0, false
}

// collect reads all sources of a volume. Where two give the same path, the
// later one wins.
func (m *Manager) collect(ctx context.Context, src downward.Source, volume string, sources []v1.VolumeProjection, mode int32) (content, time.Time, error) {
	out := content{}
	var refresh time.Time
	for i := range sources {
		s := &sources[i]
		var err error
		switch {
		case s.ConfigMap != nil:
			err = m.configMap(ctx, src.Pod.Namespace, s.ConfigMap, mode, out)
		case s.Secret != nil:
			err = m.secret(ctx, src.Pod.Namespace, s.Secret, mode, out)
		case s.DownwardAPI != nil:
			err = fields(src, s.DownwardAPI.Items, mode, out)
		case s.ServiceAccountToken != nil:
			var renew time.Time
			if renew, err = m.serviceAccountToken(ctx, src.Pod, volume, s.ServiceAccountToken, mode, out); !renew.IsZero() && (refresh.IsZero() || renew.Before(refresh)) {
				refresh = renew
			}
		default:
			err = errors.New("a projected source is of a kind that is not supported; use configMap, secret, downwardAPI or serviceAccountToken")
		}
		if err != nil {
			return nil, time.Time{}, err
		}
	}
	return out, refresh, nil
}

func (m *Manager) configMap(ctx context.Context, namespace string, p *v1.ConfigMapProjection, mode int32, out content) error {
	cm, err := m.cfg.Objects.ConfigMap(ctx, namespace, p.Name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional(p.Optional) {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return out.pick("configmap", p.Name, data, p.Items, optional(p.Optional), mode)
}

func (m *Manager) secret(ctx context.Context, namespace string, p *v1.SecretProjection, mode int32, out content) error {
	s, err := m.cfg.Objects.Secret(ctx, namespace, p.Name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional(p.Optional) {
			return nil
		}
		return err
	}
	return out.pick("secret", p.Name, s.Data, p.Items, optional(p.Optional), mode)
}

func optional(b *bool) bool { return b != nil && *b }

// pick takes the items that were asked for, or everything.
func (c content) pick(kind, name string, data map[string][]byte, items []v1.KeyToPath, optional bool, mode int32) error {
	if len(items) == 0 {
		for key, value := range data {
			if err := c.add(key, value, nil, mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("%s references non-existent %s key: %s", kind, kind, item.Key)
		}
		if err := c.add(item.Path, value, item.Mode, mode); err != nil {
			return fmt.Errorf("%s %q: %w", kind, name, err)
		}
	}
	return nil
}

// add puts a file at a path, which must stay inside and must not look like the
// names that the atomic writer uses.
func (c content) add(path string, data []byte, mode *int32, fallback int32) error {
	clean := filepath.Clean(path)
	if !filepath.IsLocal(clean) || strings.HasPrefix(clean, "..") || clean == "." {
		return fmt.Errorf("path %q: want a relative path without '..'", path)
	}
	if mode != nil {
		fallback = *mode
	}
	c[clean] = file{data, fallback}
	return nil
}

// fields collects what the downward API says.
func fields(src downward.Source, items []v1.DownwardAPIVolumeFile, mode int32, out content) error {
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = src.Field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = src.Resource(nil, item.ResourceFieldRef)
		}
		if err == nil {
			err = out.add(item.Path, []byte(value), item.Mode, mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// token is a token that was given and may be given again for a while.
type token struct {
	value string
	renew time.Time
}

func (m *Manager) serviceAccountToken(ctx context.Context, pod *v1.Pod, volume string, p *v1.ServiceAccountTokenProjection, mode int32, out content) (time.Time, error) {
	lifetime := time.Hour
	if p.ExpirationSeconds != nil {
		lifetime = time.Duration(*p.ExpirationSeconds) * time.Second
	}
	key := volume + "\x00" + p.Path
	m.mu.Lock()
	t, ok := m.tokens[pod.UID][key]
	m.mu.Unlock()
	if !ok || !time.Now().Before(t.renew) {
		value, expires, err := m.cfg.Tokens.Token(ctx, pod, p.Audience, lifetime)
		if err != nil {
			return time.Time{}, fmt.Errorf("failed to fetch token: %w", err)
		}
		// At four fifths of its life, as the kubelet does.
		t = token{value, time.Now().Add(time.Until(expires) * 4 / 5)}
		m.mu.Lock()
		if m.tokens[pod.UID] == nil {
			m.tokens[pod.UID] = map[string]token{}
		}
		m.tokens[pod.UID][key] = t
		m.mu.Unlock()
	}
	return t.renew, out.add(p.Path, []byte(t.value), nil, mode)
}
