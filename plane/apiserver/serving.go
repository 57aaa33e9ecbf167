package apiserver

import (
	"net/http"

	"k8s.io/apimachinery/pkg/util/sets"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/client-go/rest"

	"copepod/plane/auth/certs"
)

// serving gives the TLS side of the library. The loopback config has no
// credentials: nothing of ours talks to the API over the network.
func serving(cfg Config) (*genericapiserver.SecureServingInfo, *rest.Config, error) {
	ca, err := dynamiccertificates.NewStaticCAContent("client-ca", cfg.ClientsPEM)
	if err != nil {
		return nil, nil, err
	}
	info := &genericapiserver.SecureServingInfo{
		Listener: cfg.Listener,
		Cert:     pairContent{cfg.Serving, cfg.ServingChanged},
		ClientCA: ca,
	}
	return info, &rest.Config{Host: "https://" + cfg.Advertise.String(), QPS: -1}, nil
}

// pairContent shows a pair that may rotate. The library polls it every minute,
// and asks at once when it is told to.
type pairContent struct {
	pair    func() certs.Pair
	changed func(func())
}

func (p pairContent) Name() string { return "serving-cert" }

func (p pairContent) AddListener(l dynamiccertificates.Listener) {
	if p.changed != nil {
		p.changed(l.Enqueue)
	}
}

func (p pairContent) CurrentCertKeyContent() ([]byte, []byte) {
	pair := p.pair()
	return pair.CertPEM, pair.KeyPEM
}

var basicLongRunning = genericfilters.BasicLongRunningRequestCheck(
	sets.NewString("watch", "proxy"),
	sets.NewString("attach", "exec", "log", "portforward", "proxy"),
)

func longRunning(r *http.Request, info *genericapirequest.RequestInfo) bool {
	return basicLongRunning(r, info)
}
