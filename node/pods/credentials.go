package pods

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	v1 "k8s.io/api/core/v1"

	"copepod/node/runtime"
)

// credentials finds what a pull secret says of an image's registry; ok is false
// if it says nothing.
func credentials(secret *v1.Secret, image string) (runtime.Credentials, bool) {
	data, wrapped := secret.Data[v1.DockerConfigJsonKey], true
	if data == nil {
		data, wrapped = secret.Data[v1.DockerConfigKey], false
	}
	return parseCredentials(data, wrapped, registryOf(image))
}

// registryOf is the host of an image name, or "" if it has none.
func registryOf(image string) string {
	host, _, ok := strings.Cut(image, "/")
	if !ok || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		return ""
	}
	return host
}

// login is one entry of a Docker configuration.
type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"` // base64 of username:password
}

// parseCredentials reads a Docker configuration: what is under "auths" if it is
// wrapped, a plain map of registries if not. It comes from a tenant.
func parseCredentials(data []byte, wrapped bool, host string) (runtime.Credentials, bool) {
	var file struct {
		Auths map[string]login `json:"auths"`
	}
	var err error
	if wrapped {
		err = json.Unmarshal(data, &file)
	} else {
		err = json.Unmarshal(data, &file.Auths)
	}
	if err != nil || host == "" {
		return runtime.Credentials{}, false
	}
	for key, entry := range file.Auths {
		key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		if key, _, _ = strings.Cut(key, "/"); key != host {
			continue
		}
		if entry.Username == "" && entry.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(entry.Auth)
			if err != nil {
				return runtime.Credentials{}, false
			}
			entry.Username, entry.Password, _ = strings.Cut(string(plain), ":")
		}
		return runtime.Credentials{Username: entry.Username, Password: entry.Password}, true
	}
	return runtime.Credentials{}, false
}
