package node

import (
	"context"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// tokens asks the API for tokens of a pod's service account, bound to the pod:
// they end with it.
type tokens struct {
	api     kubernetes.Interface
	offline func() bool
}

// offlineToken is how long a pod that started without the API keeps an empty
// token before it is asked for again.
const offlineToken = 10 * time.Second

// Token implements volume.Tokens.
func (t tokens) Token(ctx context.Context, pod *v1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	if t.offline() {
		// Nobody is there to show a token to: the pod runs without until then.
		return "", time.Now().Add(offlineToken), nil
	}
	seconds := int64(lifetime / time.Second)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	got, err := t.api.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, req, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	return got.Status.Token, got.Status.ExpirationTimestamp.Time, nil
}
