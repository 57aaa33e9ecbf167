package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// projected judges a volume that gathers files of several sources: no two may
// have the same path.
func (f *findings) projected(at *field.Path, p *corev1.ProjectedVolumeSource) {
	f.fileMode(at.Child("defaultMode"), p.DefaultMode)
	paths := seen[string]{}
	for i := range p.Sources {
		f.projection(at, at.Child("sources").Index(i), &p.Sources[i], paths)
	}
}

func (f *findings) projection(volume, at *field.Path, s *corev1.VolumeProjection, paths seen[string]) {
	n := 0
	claim := func(path string, shown string) {
		if path != "" && paths.again(path) {
			f.invalid(volume, shown, "conflicting duplicate paths")
		}
	}
	items := func(at *field.Path, name string, items []corev1.KeyToPath) {
		n++
		f.notEmpty(at.Child("name"), name)
		f.keysToPaths(at.Child("items"), items)
		for _, item := range items {
			claim(item.Path, name)
		}
	}
	if s.Secret != nil {
		items(at.Child("secret"), s.Secret.Name, s.Secret.Items)
	}
	if s.ConfigMap != nil {
		items(at.Child("configMap"), s.ConfigMap.Name, s.ConfigMap.Items)
	}
	if s.DownwardAPI != nil {
		n++
		for i := range s.DownwardAPI.Items {
			f.downwardFile(at.Child("downwardAPI"), &s.DownwardAPI.Items[i])
			claim(s.DownwardAPI.Items[i].Path, s.DownwardAPI.Items[i].Path)
		}
	}
	if t := s.ServiceAccountToken; t != nil {
		n++
		seconds := int64(0)
		if t.ExpirationSeconds != nil {
			seconds = *t.ExpirationSeconds
		}
		f.tokenLifetime(at.Child("serviceAccountToken", "expirationSeconds"), seconds)
		if t.Path == "" {
			f.required(volume.Child("path"), "")
		} else {
			f.localPath(volume.Child("path"), t.Path)
		}
	}
	if b := s.ClusterTrustBundle; b != nil {
		n++
		f.trustBundle(at.Child("clusterTrustBundle"), b)
		claim(b.Path, b.Path)
	}
	if c := s.PodCertificate; c != nil {
		n++
		f.podCertificate(at.Child("podCertificate"), c)
		for _, path := range []string{c.CredentialBundlePath, c.KeyPath, c.CertificateChainPath} {
			claim(path, path)
		}
	}
	if n > 1 {
		f.forbidden(at, "may not specify more than 1 volume type per source")
	}
}

func (f *findings) trustBundle(at *field.Path, b *corev1.ClusterTrustBundleProjection) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		f.invalid(at, b, "only one of name and signerName may be used")
	case b.Name != nil:
		if *b.Name == "" {
			f.required(at.Child("name"), "must be a valid object name")
		}
		// A bundle of a signer is called signer-domain:path:name.
		for _, why := range validation.IsDNS1123Subdomain((*b.Name)[strings.LastIndex(*b.Name, ":")+1:]) {
			f.invalid(at.Child("name"), *b.Name, fmt.Sprintf("not a valid clustertrustbundlename: %v", why))
		}
		if b.LabelSelector != nil {
			f.invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case b.SignerName != nil:
		if *b.SignerName == "" {
			f.required(at.Child("signerName"), "must be a valid signer name")
		}
		f.signerName(at.Child("signerName"), *b.SignerName)
		f.selector(at.Child("labelSelector"), b.LabelSelector)
	default:
		f.required(at, "either name or signerName must be specified")
	}
	f.notEmpty(at.Child("path"), b.Path)
	f.localPath(at.Child("path"), b.Path)
}

func (f *findings) signerName(at *field.Path, name string) {
	domain, path, ok := strings.Cut(name, "/")
	switch {
	case name == "":
		f.required(at, "")
	case !ok || strings.Contains(path, "/"):
		f.invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
	default:
		f.subdomain(at, domain)
		f.subdomain(at, path)
	}
}

func (f *findings) podCertificate(at *field.Path, c *corev1.PodCertificateProjection) {
	f.signerName(at.Child("signerName"), c.SignerName)
	unless(f, at.Child("keyType"), c.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
	if s := c.MaxExpirationSeconds; s != nil && *s < 60*60 {
		f.invalid(at.Child("maxExpirationSeconds"), *s, "if provided, maxExpirationSeconds must be >= 3600")
	}
	if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
		f.required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
	f.localPath(at.Child("credentialBundlePath"), c.CredentialBundlePath)
	f.localPath(at.Child("keyPath"), c.KeyPath)
	f.localPath(at.Child("certificateChainPath"), c.CertificateChainPath)
}
