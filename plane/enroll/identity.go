package enroll

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/controllers/api"
)

const (
	identityVersion = 1
	maxIdentity     = 8 << 10
	// maxName is that of a label value: a node's name becomes one.
	maxName = 63
)

// An Identity is what the plane knows of a machine that joined, kept as a Secret
// of type IdentityType. Renewals are judged by it: the key, the address and the
// role are those of the join, whatever a request says.
type Identity struct {
	Version int        `json:"version"`
	Name    string     `json:"name"`
	Role    join.Role  `json:"role"`
	Key     string     `json:"key"` // certs.KeyHash
	Address netip.Addr `json:"address"`
	Ports   Ports      `json:"ports"`
	Release string     `json:"release"` // of copepod
	TokenID string     `json:"tokenID"`
	Joined  time.Time  `json:"joined"`
	Issued  time.Time  `json:"issued"` // of the latest certificate
}

// Member is the machine as others reach it.
func (id Identity) Member() Member {
	return Member{Name: id.Name, Address: id.Address, Ports: id.Ports}
}

func (id Identity) secret() (*corev1.Secret, error) {
	id.Version = identityVersion
	data, err := json.Marshal(id)
	if err != nil {
		return nil, fmt.Errorf("identity of node %q: %w", id.Name, err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: IdentityPrefix + id.Name},
		Type:       IdentityType,
		Data:       map[string][]byte{identityField: data},
	}, nil
}

// decodeIdentity reads what secret wrote.
func decodeIdentity(s *corev1.Secret) (Identity, error) {
	data := s.Data[identityField]
	if s.Type != IdentityType || len(data) > maxIdentity {
		return Identity{}, fmt.Errorf("secret %s holds no identity", s.Name)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var id Identity
	if err := dec.Decode(&id); err != nil {
		return Identity{}, fmt.Errorf("secret %s: %w", s.Name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Identity{}, fmt.Errorf("secret %s: more than one JSON value", s.Name)
	}
	switch {
	case id.Version != identityVersion:
		return Identity{}, fmt.Errorf("secret %s: version %d, this one reads %d", s.Name, id.Version, identityVersion)
	case IdentityPrefix+id.Name != s.Name:
		return Identity{}, fmt.Errorf("secret %s is about node %q", s.Name, id.Name)
	case id.Role != join.RoleNode && id.Role != join.RolePlane:
		return Identity{}, fmt.Errorf("secret %s: role %q is unknown", s.Name, id.Role)
	}
	return id, nil
}

// identity finds what is known of a name, and the Secret that it was read from.
func identity(view api.View, name string) (id Identity, from *corev1.Secret, ok bool, err error) {
	obj, ok := view.Get(api.Secrets, Namespace, IdentityPrefix+name)
	if !ok {
		return Identity{}, nil, false, nil
	}
	from, ok = obj.(*corev1.Secret)
	if !ok {
		return Identity{}, nil, false, fmt.Errorf("%T is not a secret", obj)
	}
	id, err = decodeIdentity(from)
	return id, from, err == nil, err
}

// keep stores an identity over the one that was read, or as a new one.
func (s *Server) keep(ctx context.Context, id Identity, over *corev1.Secret) error {
	secret, err := id.secret()
	if err != nil {
		return err
	}
	if over == nil {
		_, err = s.cfg.Objects().Create(ctx, secret)
		return err
	}
	next := over.DeepCopy() // with the version that it had
	next.Data = secret.Data
	_, err = s.cfg.Objects().Update(ctx, next)
	return err
}

// taken tells why a machine with another key may not have the name.
func (s *Server) taken(view api.View, name, key string, now time.Time) (over *corev1.Secret, same bool, known Identity, refusal *Refusal) {
	id, over, ok, err := identity(view, name)
	if err != nil {
		s.log.Error("identity cannot be read", "node", name, "err", err)
		return nil, false, id, refuse(CodeTaken, "node name %q: what the cluster knows of it is damaged: run `copepod node revoke %s`, then join again", name, name)
	}
	if ok && id.Key == key {
		return over, true, id, nil
	}
	const wayOut = "give this machine another with --node-name, or run `copepod node revoke %s` first if that one is gone"
	// The name of a voter is taken as long as Raft has it, alive or not: whoever
	// got it would be taken for the voter.
	if ready(view, name) || s.isPlane(name) {
		where := ""
		if id.Address.IsValid() {
			where = " at " + id.Address.String()
		}
		return nil, false, id, refuse(CodeTaken, "node name %q is taken by a machine%s that is running, or votes: "+wayOut, name, where, name)
	}
	if until := id.Issued.Add(certs.NodeLifetime); ok && now.Before(until) {
		return nil, false, id, refuse(CodeTaken, "node name %q is taken by a machine at %s, whose certificate is good until %s: "+wayOut,
			name, id.Address, until.UTC().Format(time.RFC3339), name)
	}
	return over, false, id, nil
}

// ready tells whether a Node of that name lives.
func ready(view api.View, name string) bool {
	obj, ok := view.Get(api.Nodes, "", name)
	node, isNode := obj.(*corev1.Node)
	return ok && isNode && nodeReady(node)
}

func nodeReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (s *Server) isPlane(name string) bool {
	for _, p := range s.cfg.Planes() {
		if p.Name == name {
			return true
		}
	}
	return false
}
