package certs

import (
	"errors"
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"copepod/plane/auth/keyfile"
)

// Kubeconfig encodes a kubeconfig (clientcmd v1, YAML) with everything embedded:
// one cluster, user and context, all called name, and that context current.
// server is a URL such as https://127.0.0.1:6443.
func Kubeconfig(server string, caPEM []byte, pair Pair, name string) ([]byte, error) {
	if server == "" || name == "" {
		return nil, errors.New("certs: kubeconfig: server or name is empty")
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: caPEM}
	cfg.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.CertPEM, ClientKeyData: pair.KeyPEM}
	cfg.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	cfg.CurrentContext = name
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("certs: kubeconfig: %w", err)
	}
	return data, nil
}

// WriteKubeconfig puts a kubeconfig at path, mode 0600, whole or not at all. Its
// directory must be the owner's alone.
func WriteKubeconfig(path, server string, caPEM []byte, pair Pair, name string) error {
	data, err := Kubeconfig(server, caPEM, pair, name)
	if err != nil {
		return err
	}
	if err := keyfile.Write(path, data); err != nil {
		return fmt.Errorf("certs: kubeconfig: %w", err)
	}
	return nil
}
