package enroll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"copepod/plane/auth/revoke"
	"copepod/plane/auth/token/join"
)

// CreateToken makes a join token and stores its record.
func CreateToken(ctx context.Context, client kubernetes.Interface, spec join.Spec) (join.Token, join.Record, error) {
	tok, rec, err := join.New(spec)
	if err != nil {
		return tok, rec, err
	}
	data, err := rec.Encode()
	if err != nil {
		return tok, rec, err
	}
	_, err = client.CoreV1().Secrets(Namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: TokenPrefix + tok.ID},
		Type:       TokenType, Data: map[string][]byte{tokenField: data},
	}, metav1.CreateOptions{})
	if err != nil {
		return tok, rec, fmt.Errorf("join token: %w", err)
	}
	return tok, rec, nil
}

// Tokens lists the records, the newest first.
func Tokens(ctx context.Context, client kubernetes.Interface) ([]join.Record, error) {
	list, err := secretsOf(ctx, client, TokenType)
	if err != nil {
		return nil, fmt.Errorf("join tokens: %w", err)
	}
	var out []join.Record
	for i := range list {
		rec, err := recordOf(&list[i])
		if err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	slices.SortFunc(out, func(a, b join.Record) int { return b.Created.Compare(a.Created) })
	return out, nil
}

func secretsOf(ctx context.Context, client kubernetes.Interface, kind corev1.SecretType) ([]corev1.Secret, error) {
	list, err := client.CoreV1().Secrets(Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(kind)).String(),
	})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// DeleteToken makes a token worthless. It takes the id, or the whole token.
func DeleteToken(ctx context.Context, client kubernetes.Interface, id string) error {
	if tok, err := join.Parse(id); err == nil {
		id = tok.ID
	}
	id = strings.TrimPrefix(id, TokenPrefix)
	if !join.ValidID(id) {
		return fmt.Errorf("%.40q is not the id of a join token: `copepod token list` shows them", id)
	}
	err := client.CoreV1().Secrets(Namespace).Delete(ctx, TokenPrefix+id, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no join token %s: `copepod token list` shows those that there are", id)
	}
	return err
}

// Identities lists the machines that joined, by node name.
func Identities(ctx context.Context, client kubernetes.Interface) (map[string]Identity, error) {
	list, err := secretsOf(ctx, client, IdentityType)
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	out := map[string]Identity{}
	for i := range list {
		id, err := decodeIdentity(&list[i])
		if err != nil {
			return nil, err
		}
		out[id.Name] = id
	}
	return out, nil
}

// ErrNoNode says that a cluster knows no machine of a name.
var ErrNoNode = errors.New("no such machine: `copepod node list` shows those that there are")

// A Departure is what became of a machine.
type Departure struct {
	Node string
	// Plane says that the machine had the cluster's keys. Who took them from it
	// can sign certificates until the CA is replaced.
	Plane bool
}

// Revoke puts a machine out at once: its certificates and its key are refused
// everywhere from now on, its membership is forgotten, and its Node is deleted,
// which ends its pods. The leader replaces the gossip key when it sees the entry.
func Revoke(ctx context.Context, client kubernetes.Interface, name string) (Departure, error) {
	return depart(ctx, client, name, true)
}

// Release is Revoke for a machine that left in peace: it may come back with the
// key that it has, given a new token.
func Release(ctx context.Context, client kubernetes.Interface, name string) (Departure, error) {
	return depart(ctx, client, name, false)
}

func depart(ctx context.Context, client kubernetes.Interface, name string, forKey bool) (Departure, error) {
	out := Departure{Node: name}
	entry := revoke.Entry{Node: name, At: time.Now().UTC()}
	secret, err := client.CoreV1().Secrets(Namespace).Get(ctx, IdentityPrefix+name, metav1.GetOptions{})
	switch {
	case err == nil:
		if id, err := decodeIdentity(secret); err == nil {
			out.Plane = id.Role == join.RolePlane
			if forKey && id.Key != "" { // who began the cluster joined with none
				entry.Keys = []string{id.Key}
			}
		} // a damaged one is as good as none: the name is refused all the same
	case !apierrors.IsNotFound(err):
		return out, fmt.Errorf("node %q: %w", name, err)
	default:
		if _, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return out, fmt.Errorf("node %q: %w", name, ErrNoNode)
		} else if err != nil {
			return out, fmt.Errorf("node %q: %w", name, err)
		}
	}
	// The entry comes first: whatever fails after it, the machine is out, and the
	// verb can be repeated.
	if err := addRevocation(ctx, client, entry); err != nil {
		return out, fmt.Errorf("node %q is not revoked: %w", name, err)
	}
	err = client.CoreV1().Secrets(Namespace).Delete(ctx, IdentityPrefix+name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return out, fmt.Errorf("node %q is revoked, but its identity is not deleted: %w; repeat the command", name, err)
	}
	err = client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return out, fmt.Errorf("node %q is revoked, but its Node is not deleted: %w; repeat the command", name, err)
	}
	return out, nil
}

func addRevocation(ctx context.Context, client kubernetes.Interface, entry revoke.Entry) error {
	maps := client.CoreV1().ConfigMaps(Namespace)
	lost := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, lost, func() error {
		cm, err := maps.Get(ctx, RevokedName, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if err != nil && !missing {
			return err
		}
		if missing {
			cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: RevokedName}}
		}
		entries, err := entriesOf(cm)
		if err != nil {
			return err
		}
		if entries, err = entries.Add(entry); err != nil {
			return err
		}
		data, err := entries.Encode()
		if err != nil {
			return err
		}
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		cm.Data[revokedField] = string(data)
		if missing {
			_, err = maps.Create(ctx, cm, metav1.CreateOptions{})
		} else {
			_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
		}
		return err
	})
}
