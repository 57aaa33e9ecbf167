//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package validation

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpoints(f *findings, e *corev1.Endpoints) {
	f.meta(&e.ObjectMeta, namespaced, apivalidation.NameIsDNSSubdomain)
	for i, s := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			f.required(at, "must specify `addresses` or `notReadyAddresses`")
		}
		f.subsetAddresses(at.Child("addresses"), s.Addresses)
		f.subsetAddresses(at.Child("notReadyAddresses"), s.NotReadyAddresses)
		for j, p := range s.Ports {
			at := at.Child("ports").Index(j)
			if p.Name != "" {
				f.label(at.Child("name"), p.Name)
			} else if len(s.Ports) > 1 {
				f.required(at.Child("name"), "")
			}
			f.portNumber(at.Child("port"), p.Port)
			oneOf(f, at.Child("protocol"), p.Protocol, protocols...)
			if p.AppProtocol != nil {
				f.qualifiedName(at.Child("appProtocol"), *p.AppProtocol)
			}
		}
	}
}

func endpointsUpdate(f *findings, e, old *corev1.Endpoints) {
	f.metaUpdate(&e.ObjectMeta, &old.ObjectMeta)
	endpoints(f, e)
}

func (f *findings) subsetAddresses(at *field.Path, addresses []corev1.EndpointAddress) {
	for i, a := range addresses {
		at := at.Index(i)
		f.ip(at.Child("ip"), a.IP)
		if a.Hostname != "" {
			f.label(at.Child("hostname"), a.Hostname)
		}
		if a.NodeName != nil {
			f.each(at.Child("nodeName"), *a.NodeName, apivalidation.NameIsDNSSubdomain(*a.NodeName, false))
		}
		f.ordinaryIP(at.Child("ip"), a.IP)
	}
}
