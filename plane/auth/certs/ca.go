// Package certs is the cluster's certificate authority: it makes the CA at first
// start, issues and rotates short-lived server and client certificates, signs
// what joining nodes ask for, and writes kubeconfigs. It knows X.509 and files;
// it never learns who may do what (package rbac decides that), and it serves
// nothing itself.
//
//	ca, err := certs.LoadOrCreateCA(dir)
//	serving, err := certs.NewRotator(certs.RotatorConfig{
//		Source: func(context.Context) (certs.Pair, error) {
//			return ca.Server("kube-apiserver", certs.APIHosts("10.96.0.1"))
//		},
//	})
//	tlsConfig := serving.ServerTLS(ca.Pool())
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"copepod/plane/auth/keyfile"
)

// File names inside the directory of a CA.
const (
	CAKeyFile  = "ca.key" // PKCS #8, P-256
	CACertFile = "ca.crt"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	// backdate lets machines whose clocks run a little behind use a new
	// certificate at once.
	backdate = 5 * time.Minute
)

// ErrKeyMissing says that a directory has a CA certificate but not its key.
var ErrKeyMissing = errors.New("ca.crt is there but ca.key is not: restore the key from a backup, or remove ca.crt too to start a new cluster CA (every issued certificate and token pin is then void)")

// A CA signs the certificates of one cluster. It is safe for concurrent use and
// never changes.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// LoadOrCreateCA opens the CA in dir, made 0700 with a fresh ECDSA P-256 key of
// mode 0600 if there is none. It returns *keyfile.PermissionError if others could
// have read the key, and ErrKeyMissing if only the certificate is left. A key
// without its certificate (a crash between the two writes) gets a new
// certificate, with the same Hash.
func LoadOrCreateCA(dir string) (*CA, error) {
	if err := keyfile.Dir(dir); err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	keyPath, certPath := filepath.Join(dir, CAKeyFile), filepath.Join(dir, CACertFile)
	_, keyErr := keyfile.Read(keyPath)
	_, certErr := os.Stat(certPath)
	if errors.Is(keyErr, fs.ErrNotExist) && certErr == nil {
		return nil, fmt.Errorf("certs: %s: %w", dir, ErrKeyMissing)
	}
	keyPEM, err := keyfile.LoadOrCreate(keyPath, func() ([]byte, error) {
		_, pemBytes, err := newKey()
		return pemBytes, err
	})
	if err != nil {
		return nil, fmt.Errorf("certs: CA key: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certs: %s: %w", keyPath, err)
	}
	certPEM, err := loadOrSelfSign(certPath, key)
	if err != nil {
		return nil, fmt.Errorf("certs: CA certificate: %w", err)
	}
	ca, err := newCA(certPEM, key)
	if err != nil {
		return nil, fmt.Errorf("certs: %s: %w", certPath, err)
	}
	return ca, nil
}

func newCA(certPEM []byte, key *ecdsa.PrivateKey) (*CA, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("does not belong to ca.key beside it: restore the pair from one backup")
	}
	if !cert.IsCA {
		return nil, errors.New("not a CA certificate")
	}
	return &CA{cert: cert, key: key, pem: certPEM}, nil
}

// PEM returns the CA certificate, the trust anchor for kubeconfigs and nodes.
func (ca *CA) PEM() []byte { return append([]byte(nil), ca.pem...) }

// Certificate returns the parsed CA certificate; do not change it.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Pool returns a new pool that trusts this CA only.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Hash is the pin of this CA: see the function Hash.
func (ca *CA) Hash() string { return Hash(ca.cert) }

// Hash returns "sha256:" and the hex SHA-256 of a certificate's
// SubjectPublicKeyInfo (RFC 7469 section 2.4), which stays the same when the
// certificate is renewed for the same key.
func Hash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// loadOrSelfSign accepts a certificate file of any mode: people hand it out.
func loadOrSelfSign(path string, key *ecdsa.PrivateKey) ([]byte, error) {
	certPEM, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return certPEM, err
	}
	if certPEM, err = selfSign(key); err != nil {
		return nil, err
	}
	err = keyfile.Create(path, certPEM)
	if errors.Is(err, fs.ErrExist) { // another process was first: one certificate for all
		return os.ReadFile(path)
	}
	return certPEM, err
}

func selfSign(key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "copepod-ca"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return encodeCert(der), nil
}

// newSerial returns 127 random bits: unguessable and never zero in practice
// (RFC 5280 section 4.1.2.2 allows 20 octets).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block PRIVATE KEY: the file is damaged, restore it from a backup")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key is %T, want ECDSA P-256", parsed)
	}
	return key, nil
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM block CERTIFICATE: the file is damaged, restore it from a backup")
	}
	return x509.ParseCertificate(block.Bytes)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
