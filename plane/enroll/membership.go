package enroll

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"copepod/gossip"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/gossipkeys"
	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/seal"
	"copepod/plane/auth/token"
	"copepod/plane/auth/token/join"
)

// Files under the data directory. The keys of planes are where the packages that
// use them look.
const (
	membershipFile = "cluster.json"
	clientKeyFile  = "node/client.key" // also the key of serving.crt
	clientCertFile = "node/client.crt"
	servingFile    = "node/serving.crt"
	ringFile       = "gossip/keys.json"
	revokedFile    = "gossip/revoked.json"
	pkiDir         = "pki"
	sealDir        = "seal"
	tokensDir      = "tokens"
)

const (
	membershipVersion = 1
	maxPlanes         = 64
)

// Errors of Load and Join.
var (
	// ErrNoMembership says that a data directory has not joined a cluster.
	ErrNoMembership = errors.New("not a member of a cluster: join one with `copepod join`, or start one with `copepod up`")
	// ErrOtherCluster says that a data directory belongs to a cluster already.
	ErrOtherCluster = errors.New("belongs to another cluster than the token: give another directory with --data-dir, or remove this one if that cluster is gone")
	// ErrOwnCluster says that a data directory holds a cluster that `up` started.
	ErrOwnCluster = errors.New("holds a cluster of its own, started with `copepod up`: give another directory with --data-dir, or remove this one to give that cluster up")
)

// A Membership is what a machine that joined knows of its cluster. Its secrets
// are in files beside it.
type Membership struct {
	Version  int        `json:"version"`
	Role     join.Role  `json:"role"`
	Name     string     `json:"name"`
	Address  netip.Addr `json:"address"`
	Ports    Ports      `json:"ports"`
	Cluster  string     `json:"cluster"` // hash of the CA
	Planes   []Member   `json:"planes"`  // as they were last heard of
	Settings Settings   `json:"settings"`
	Joined   time.Time  `json:"joined"`

	dir string
}

// Load reads the membership of a data directory. Without one the error is
// ErrNoMembership.
func Load(dir string) (*Membership, error) {
	path := filepath.Join(dir, membershipFile)
	data, err := keyfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory %s: %w", dir, ErrNoMembership)
	}
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	m := &Membership{dir: dir}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("membership: %s is damaged: %w; restore it from a backup, or join anew with a fresh --data-dir", path, err)
	}
	if m.Version != membershipVersion {
		return nil, fmt.Errorf("membership: %s has version %d, this one reads %d: start the version that wrote it", path, m.Version, membershipVersion)
	}
	if m.Name == "" || !m.Address.IsValid() || m.Cluster == "" {
		return nil, fmt.Errorf("membership: %s is damaged: name, address or cluster is missing", path)
	}
	return m, nil
}

// Save replaces the file, whole or not at all.
func (m *Membership) Save() error {
	m.Version = membershipVersion
	data, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = keyfile.Write(m.path(membershipFile), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

func (m *Membership) path(name string) string { return filepath.Join(m.dir, filepath.FromSlash(name)) }

// Plane tells whether the machine has the cluster's keys and may vote.
func (m *Membership) Plane() bool { return m.Role == join.RolePlane }

// Servers are the API addresses that are known, host:port.
func (m *Membership) Servers() []string {
	var out []string
	for _, p := range m.Planes {
		if p.Name != m.Name {
			out = append(out, p.API())
		}
	}
	return out
}

// ClientPair is the certificate by which the machine's node proves who it is.
func (m *Membership) ClientPair() (certs.Pair, error) { return m.pair(clientCertFile) }

// ServingPair is what the machine shows on its own ports.
func (m *Membership) ServingPair() (certs.Pair, error) { return m.pair(servingFile) }

func (m *Membership) pair(certFile string) (certs.Pair, error) {
	cert, err := keyfile.Read(m.path(certFile))
	if err != nil {
		return certs.Pair{}, fmt.Errorf("membership: %w", err)
	}
	key, err := keyfile.Read(m.path(clientKeyFile))
	if err != nil {
		return certs.Pair{}, fmt.Errorf("membership: %w", err)
	}
	return certs.Pair{CertPEM: cert, KeyPEM: key}, nil
}

// TrustDir is where the CA's certificate is, for certs.ReadTrust.
func (m *Membership) TrustDir() string { return m.path(pkiDir) }

// API configures a client of the API at server, host:port, as this machine's
// node. The certificate is read from its file, so that a renewed one is used.
// Any member's API port will do, whatever addresses are in the certificate that
// answers there.
func (m *Membership) API(server string) *rest.Config {
	return &rest.Config{
		Host: "https://" + server,
		TLSClientConfig: rest.TLSClientConfig{
			CAFile:     m.path(pkiDir + "/" + certs.CACertFile),
			CertFile:   m.path(clientCertFile),
			KeyFile:    m.path(clientKeyFile),
			ServerName: certs.APIName,
		},
	}
}

// OpenRing reads the gossip keys that the machine of a data directory had last;
// the first machine of a cluster makes the first key.
func OpenRing(dir string) (gossipkeys.Ring, error) {
	data, err := keyfile.LoadOrCreate(filepath.Join(dir, filepath.FromSlash(ringFile)), func() ([]byte, error) {
		return gossipkeys.New(gossip.NewKey(), time.Now()).Encode()
	})
	if err != nil {
		return gossipkeys.Ring{}, fmt.Errorf("gossip keys: %w", err)
	}
	return gossipkeys.Decode(data)
}

func saveRing(dir string, ring gossipkeys.Ring) error {
	data, err := ring.Encode()
	if err != nil {
		return err
	}
	return keyfile.Write(filepath.Join(dir, filepath.FromSlash(ringFile)), data)
}

// readKeys reads what a plane hands to another.
func readKeys(dir string) (*Keys, error) {
	k := &Keys{}
	for name, to := range k.files() {
		data, err := keyfile.Read(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		*to = data
	}
	return k, nil
}

// write puts the keys where the packages that use them look. They are judged
// first: a plane with a bad one would not start.
func (k *Keys) write(dir string) error {
	if _, err := seal.Parse(k.Seal); err != nil {
		return err
	}
	if _, err := token.ParseKeys(k.Tokens); err != nil {
		return err
	}
	for name, from := range k.files() {
		if err := keyfile.Write(filepath.Join(dir, filepath.FromSlash(name)), *from); err != nil {
			return err
		}
	}
	_, err := certs.LoadOrCreateCA(filepath.Join(dir, pkiDir)) // that key and certificate are a pair
	return err
}

func (k *Keys) files() map[string]*[]byte {
	return map[string]*[]byte{
		pkiDir + "/" + certs.CAKeyFile:  &k.CA,
		sealDir + "/" + seal.FileName:   &k.Seal,
		tokensDir + "/" + token.KeyFile: &k.Tokens,
	}
}

// ownsCluster tells whether `up` made a cluster in the directory.
func ownsCluster(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, pkiDir, certs.CAKeyFile))
	return err == nil
}
