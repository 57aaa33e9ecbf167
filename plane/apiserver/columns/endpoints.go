//lint:file-ignore SA1019 Endpoints is deprecated in favour of EndpointSlice, and served.

package columns

import (
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var endpointsColumns = []metav1.TableColumnDefinition{
	nameColumn,
	column("Endpoints", "string", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
	ageColumn,
}

func endpointsRow(e *corev1.Endpoints, now time.Time) []any {
	if len(e.Subsets) == 0 {
		return []any{e.Name, "<none>", age(e.CreationTimestamp, now)}
	}
	var all firstThree
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 { // a headless service may have none
			for _, a := range subset.Addresses {
				all.add(a.IP)
			}
		}
		for _, p := range subset.Ports {
			for _, a := range subset.Addresses {
				all.add(net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return []any{e.Name, all.String(), age(e.CreationTimestamp, now)}
}
