package validation

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var dataPath = field.NewPath("data")

func configMap(f *findings, c *corev1.ConfigMap) {
	f.meta(&c.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		f.each(dataPath.Key(key), key, validation.IsConfigMapKey(key))
		if _, ok := c.BinaryData[key]; ok {
			f.invalid(dataPath.Key(key), key, "duplicate of key present in binaryData")
		}
		size += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		f.each(field.NewPath("binaryData").Key(key), key, validation.IsConfigMapKey(key))
		size += len(c.BinaryData[key])
	}
	if size > corev1.MaxSecretSize {
		f.add(field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
}

func configMapUpdate(f *findings, c, old *corev1.ConfigMap) {
	f.metaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if isTrue(old.Immutable) {
		f.frozen(field.NewPath("immutable"), isTrue(c.Immutable))
		f.frozen(dataPath, equality.Semantic.DeepEqual(c.Data, old.Data))
		f.frozen(field.NewPath("binaryData"), equality.Semantic.DeepEqual(c.BinaryData, old.BinaryData))
	}
	configMap(f, c)
}

// frozen forbids a change of an immutable config map or secret.
func (f *findings) frozen(at *field.Path, same bool) {
	if !same {
		f.forbidden(at, "field is immutable when `immutable` is set")
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func secret(f *findings, s *corev1.Secret) {
	f.meta(&s.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		f.each(dataPath.Key(key), key, validation.IsConfigMapKey(key))
		size += len(s.Data[key])
	}
	if size > corev1.MaxSecretSize {
		f.add(field.TooLong(dataPath, "", corev1.MaxSecretSize))
	}
	secretType(f, s)
}

// secretType requires the keys that go with a type. Values never appear in an
// error.
func secretType(f *findings, s *corev1.Secret) {
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		f.notEmpty(metaPath.Child("annotations").Key(corev1.ServiceAccountNameKey), s.Annotations[corev1.ServiceAccountNameKey])
	case corev1.SecretTypeDockercfg:
		secretJSON(f, s, corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		secretJSON(f, s, corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			f.required(dataPath.Key(corev1.BasicAuthUsernameKey), "")
			f.required(dataPath.Key(corev1.BasicAuthPasswordKey), "")
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			f.required(dataPath.Key(corev1.SSHAuthPrivateKey), "")
		}
	case corev1.SecretTypeTLS:
		for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
			if _, ok := s.Data[key]; !ok {
				f.required(dataPath.Key(key), "")
			}
		}
	}
}

func secretJSON(f *findings, s *corev1.Secret, key string) {
	value, ok := s.Data[key]
	if !ok {
		f.required(dataPath.Key(key), "")
		return
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(value, &object); err != nil {
		f.invalid(dataPath.Key(key), "<secret contents redacted>", err.Error())
	}
}

func secretUpdate(f *findings, s, old *corev1.Secret) {
	f.metaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	f.immutable(field.NewPath("type"), s.Type, old.Type)
	if isTrue(old.Immutable) {
		f.frozen(field.NewPath("immutable"), isTrue(s.Immutable))
		f.frozen(dataPath, equality.Semantic.DeepEqual(s.Data, old.Data))
	}
	secret(f, s)
}

// secretWarnings tells of a key that is not that of its certificate.
func secretWarnings(w *warnings, s, _ *corev1.Secret) {
	if s.Type != corev1.SecretTypeTLS {
		return
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		w.add(err.Error())
	}
}
