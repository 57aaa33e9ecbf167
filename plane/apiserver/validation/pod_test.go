package validation_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"copepod/plane/apiserver/validation"
)

var podKind = gk("", "Pod")

// first gives the only container of the minimal pod.
func first(p *corev1.Pod) *corev1.Container { return &p.Spec.Containers[0] }

func container(name string, edit func(*corev1.Container)) corev1.Container {
	c := corev1.Container{Name: name, Image: "img:1", TerminationMessagePolicy: "File", ImagePullPolicy: "Always"}
	if edit != nil {
		edit(&c)
	}
	return c
}

func configVolume(name, configMap string) corev1.Volume {
	v := corev1.Volume{Name: name}
	v.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}}
	return v
}

const (
	badLabel = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`
	badName  = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`
)

func TestPodsAreJudged(t *testing.T) {
	creates[*corev1.Pod]{
		{"as it is", func(*corev1.Pod) {}, ""},
		{"bad name", func(p *corev1.Pod) { p.Name = "A" }, `metadata.name: Invalid value: "A": ` + badName},
		{"no containers", func(p *corev1.Pod) { p.Spec.Containers = nil }, "spec.containers: Required value"},
		{"container without a name", func(p *corev1.Pod) { first(p).Name = "" }, "spec.containers[0].name: Required value"},
		{"container with a bad name", func(p *corev1.Pod) { first(p).Name = "Web" }, `spec.containers[0].name: Invalid value: "Web": ` + badLabel},
		{"container without an image", func(p *corev1.Pod) { first(p).Image = "" }, "spec.containers[0].image: Required value"},
		{"image with a blank", func(p *corev1.Pod) { first(p).Image = " web" }, `spec.containers[0].image: Invalid value: " web": must not have leading or trailing whitespace`},
		{"two of a name", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, container("web", nil)) }, `spec.containers[1].name: Duplicate value: "web"`},
		{"init container of the same name", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{container("web", nil)} }, `spec.initContainers[0].name: Duplicate value: "web"`},
		{"probe of an init container", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{container("init", func(c *corev1.Container) { c.LivenessProbe, c.Lifecycle = &corev1.Probe{}, &corev1.Lifecycle{} })}
		}, "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always\nspec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"},
		{"ephemeral container", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(container("debug", nil)), TargetContainerName: "who"}}
		}, "spec.ephemeralContainers[0].targetContainerName: Not found: \"who\"\nspec.ephemeralContainers: Forbidden: cannot be set on create"},
		{"pull policy", func(p *corev1.Pod) { first(p).ImagePullPolicy = "Sometimes" }, `spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`},
		{"restart policy", func(p *corev1.Pod) { p.Spec.RestartPolicy = "x" }, `spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never"`},
		{"dns policy", func(p *corev1.Pod) { p.Spec.DNSPolicy = "" }, "spec.dnsPolicy: Required value"},
		{"port out of range", func(p *corev1.Pod) {
			first(p).Ports = []corev1.ContainerPort{{ContainerPort: 70000, Protocol: "TCP"}, {Protocol: "ICMP", Name: "x!"}}
		}, "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive\n" +
			"spec.containers[0].ports[1].name: Invalid value: \"x!\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)\n" +
			"spec.containers[0].ports[1].containerPort: Required value\n" +
			"spec.containers[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\""},
		{"host port twice", func(p *corev1.Pod) {
			first(p).Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: "TCP"}, {ContainerPort: 81, HostPort: 80, Protocol: "TCP"}}
		}, `spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"`},
		{"host network", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			first(p).Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: "TCP"}}
		}, "spec.containers[0].ports[0].hostPort: Invalid value: 8080: must match `containerPort` when `hostNetwork` is true"},
		{"selector, service account, node", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{"a": "no no"}
			p.Spec.ServiceAccountName, p.Spec.NodeName, p.Spec.Hostname = "S", "N", "h.h"
		}, "spec.nodeSelector: Invalid value: \"no no\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')\n" +
			"spec.serviceAccountName: Invalid value: \"S\": " + badName + "\nspec.nodeName: Invalid value: \"N\": " + badName + "\nspec.hostname: Invalid value: \"h.h\": must not contain dots"},
		{"deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](0) }, "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"},
		{"assigned while gated", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "n", []corev1.PodSchedulingGate{{Name: "a.b/c"}, {Name: "a.b/c"}}
		}, "spec.schedulingGates[1]: Duplicate value: \"a.b/c\"\nspec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"},
		{"host alias", func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "x", Hostnames: []string{"a_b"}}}
		}, "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)\nspec.hostAliases[0].hostnames[0]: Invalid value: \"a_b\": " + badName},
		{"resolver", func(p *corev1.Pod) { p.Spec.DNSPolicy = "None" }, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"},
		{"deletion cost", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "+1"} }, `metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer`},
	}.run(t, podKind)
}

func TestWhatAContainerIsGivenIsJudged(t *testing.T) {
	env := func(vars ...corev1.EnvVar) func(*corev1.Pod) {
		return func(p *corev1.Pod) { first(p).Env = vars }
	}
	fieldRef := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
	}
	creates[*corev1.Pod]{
		{"variable without a name", env(corev1.EnvVar{Value: "1"}), "spec.containers[0].env[0].name: Required value"},
		{"variable from nothing", env(corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{}}), "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"},
		{"variable with a value and a source", env(corev1.EnvVar{Name: "A", Value: "1", ValueFrom: fieldRef("metadata.name")}), "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"},
		{"a label of the pod", env(corev1.EnvVar{Name: "A", ValueFrom: fieldRef("metadata.labels['app']")}), ""},
		{"field that may not be asked for", env(corev1.EnvVar{Name: "A", ValueFrom: fieldRef("status.phase")}), `spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`},
		{"field that is not there", env(corev1.EnvVar{Name: "A", ValueFrom: fieldRef("spec.x")}), `spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x`},
		{"divisor", env(corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("2")}}}), `spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource`},
		{"secret key", env(corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}}), "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value"},
		{"all of nothing", func(p *corev1.Pod) { first(p).EnvFrom = []corev1.EnvFromSource{{}} }, "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"},
		{"request over the limit", func(p *corev1.Pod) {
			first(p).Resources = corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("-1")},
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("1")},
			}
		}, `spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1` + "\n" + `spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`},
		{"unknown resources", func(p *corev1.Pod) {
			first(p).Resources.Limits = corev1.ResourceList{"gpus": resource.MustParse("1"), "a.b/c": resource.MustParse("100m"), "pods": resource.MustParse("1")}
			first(p).Resources.Requests = first(p).Resources.Limits
		}, `spec.containers[0].resources.limits[a.b/c]: Invalid value: "100m": must be an integer` + "\n" +
			`spec.containers[0].resources.limits[gpus]: Invalid value: "gpus": must be a standard resource type or fully qualified` + "\n" +
			`spec.containers[0].resources.limits[gpus]: Invalid value: "gpus": must be a standard resource for containers` + "\n" +
			`spec.containers[0].resources.limits[pods]: Invalid value: "pods": must be a standard resource for containers` + "\n" +
			`spec.containers[0].resources.requests[a.b/c]: Invalid value: "100m": must be an integer` + "\n" +
			`spec.containers[0].resources.requests[gpus]: Invalid value: "gpus": must be a standard resource type or fully qualified` + "\n" +
			`spec.containers[0].resources.requests[gpus]: Invalid value: "gpus": must be a standard resource for containers` + "\n" +
			`spec.containers[0].resources.requests[pods]: Invalid value: "pods": must be a standard resource for containers`},
		{"mount of nothing", func(p *corev1.Pod) {
			first(p).VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/a"}}
		}, `spec.containers[0].volumeMounts[0].name: Not found: "v"`},
		{"two mounts at one path", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{configVolume("v", "c")}
			first(p).VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/a"}, {Name: "v", MountPath: "/a", SubPath: "../x"}}
		}, "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique\nspec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'"},
		{"probe that does nothing", func(p *corev1.Pod) {
			first(p).LivenessProbe = &corev1.Probe{SuccessThreshold: 2, PeriodSeconds: -1}
		}, "spec.containers[0].livenessProbe: Required value: must specify a handler type\nspec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0\nspec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"},
		{"probe that does two things", func(p *corev1.Pod) {
			first(p).ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(0), Scheme: "FTP"}, TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}}
		}, "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive\nspec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"\nspec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"},
		{"ids out of range", func(p *corev1.Pod) {
			first(p).SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To[int64](-1), AllowPrivilegeEscalation: ptr.To(false), Privileged: ptr.To(true)}
			p.Spec.SecurityContext.FSGroup = ptr.To[int64](1 << 31)
		}, "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive\n" +
			"spec.containers[0].securityContext: Invalid value: {\"privileged\":true,\"runAsUser\":-1,\"allowPrivilegeEscalation\":false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true\n" +
			"spec.securityContext.fsGroup: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive"},
		{"seccomp", func(p *corev1.Pod) {
			p.Spec.SecurityContext.SeccompProfile = &corev1.SeccompProfile{Type: "Localhost"}
		}, "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"},
	}.run(t, podKind)
}

func TestVolumesAreJudged(t *testing.T) {
	volumes := func(list ...corev1.Volume) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = list }
	}
	source := func(s corev1.VolumeSource) func(*corev1.Pod) {
		return volumes(corev1.Volume{Name: "v", VolumeSource: s})
	}
	creates[*corev1.Pod]{
		{"no source", source(corev1.VolumeSource{}), "spec.volumes[0]: Required value: must specify a volume type"},
		{"two sources", source(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, HostPath: &corev1.HostPathVolumeSource{Path: "/"}}), "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"},
		{"name twice", volumes(configVolume("v", "c"), configVolume("v", "d")), `spec.volumes[1].name: Duplicate value: "v"`},
		{"no name", volumes(configVolume("", "c")), "spec.volumes[0].name: Required value"},
		{"config map without a name", volumes(configVolume("v", "")), "spec.volumes[0].configMap.name: Required value"},
		{"mode", source(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o1000), Items: []corev1.KeyToPath{{Key: "k", Path: "../p"}}}}), "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive\nspec.volumes[0].secret.items[0].path: Invalid value: \"../p\": must not contain '..'"},
		{"host path going up", source(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b", Type: ptr.To(corev1.HostPathType("x"))}}), "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'\nspec.volumes[0].hostPath.type: Unsupported value: \"x\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\""},
		{"projected paths that meet", source(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Items: []corev1.KeyToPath{{Key: "k", Path: "p"}}}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "k", Path: "p"}}}},
		}}}), `spec.volumes[0].projected: Invalid value: "c": conflicting duplicate paths`},
		{"token without an account", source(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](1)}},
		}}}), "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes\nspec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"},
		{"nfs", source(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "p"}}), `spec.volumes[0].nfs.path: Invalid value: "p": must be an absolute path`},
		{"csi", source(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}}), "spec.volumes[0].csi.driver: Required value\nspec.volumes[0].csi.driver: Invalid value: \"\": " + badName},
		{"claim of its own", source(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}}), "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set\nspec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required\nspec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"},
	}.run(t, podKind)
}

func TestWhereAPodMayGoIsJudged(t *testing.T) {
	creates[*corev1.Pod]{
		{"node affinity without terms", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
		}, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"},
		{"node affinity", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 101, Preference: corev1.NodeSelectorTerm{
					MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: "In"}, {Key: "a", Operator: "Gt"}, {Key: "a", Operator: "x"}},
					MatchFields:      []corev1.NodeSelectorRequirement{{Key: "spec.x", Operator: "Exists"}},
				}}}}}
		}, "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100\n" +
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'\n" +
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'\n" +
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[2].operator: Invalid value: \"x\": not a valid selector operator\n" +
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator\n" +
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key"},
		{"pod affinity", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "zone", MatchLabelKeys: []string{"a"}}}}}
		}, "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"},
		{"tolerations", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{}, {Key: "a", Operator: "Exists", Value: "v", Effect: "x"}, {Key: "a", TolerationSeconds: ptr.To[int64](1), Effect: "NoSchedule"}}
		}, "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"\n" +
			"spec.tolerations[1].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'\n" +
			"spec.tolerations[1].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"\n" +
			"spec.tolerations[2].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"},
		{"spread", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: "x"}, {MaxSkew: 1, TopologyKey: "z", WhenUnsatisfiable: "DoNotSchedule"}, {MaxSkew: 1, TopologyKey: "z", WhenUnsatisfiable: "DoNotSchedule"}}
		}, "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero\n" +
			"spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty\n" +
			"spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"\n" +
			"spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{z, DoNotSchedule}\""},
	}.run(t, podKind)
}

func TestARunningPodStaysAsItIs(t *testing.T) {
	runUpdates(t, podKind, update, updates[*corev1.Pod]{
		{"another image", nil, func(p *corev1.Pod) { first(p).Image = "web:2" }, ""},
		{"no image", nil, func(p *corev1.Pod) { first(p).Image = "" }, "spec.containers[0].image: Required value"},
		{"labels", nil, func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, ""},
		{"another container", nil, func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, container("b", nil)) }, "spec.containers: Forbidden: pod updates may not add or remove containers"},
		{"a toleration more", nil, func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists"}} }, ""},
		{"a toleration less", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists"}} }, func(p *corev1.Pod) { p.Spec.Tolerations = nil }, "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"},
		{"a nearer deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](9) }, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](3) }, ""},
		{"a later deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](9) }, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](10) }, "spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value"},
		{"no deadline any more", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](9) }, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = nil }, "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"},
		{"a new gate", nil, func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"},
		{"a gate less", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil }, ""},
		{"a narrower choice while gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, ""},
		{"another choice while gated", func(p *corev1.Pod) {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}}
			p.Spec.NodeSelector = map[string]string{"a": "b"}
		}, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "c"} }, `spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`},
		{"another name", nil, func(p *corev1.Pod) { p.Name = "b" }, `metadata.name: Invalid value: "b": field is immutable`},
		{"no version", nil, func(p *corev1.Pod) { p.ResourceVersion = "" }, `metadata.resourceVersion: Invalid value: "": must be specified for an update`},
	})
}

func TestTheErrorShowsWhatMayNotChange(t *testing.T) {
	old := stored[*corev1.Pod](t, podKind)
	p := old.DeepCopy()
	p.Spec.NodeName = "n1"
	got := textOf(rulesOf(t, podKind).Update(p, old))
	want := "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
	if !strings.HasPrefix(got, want) || !strings.Contains(got, `+ "nodeName": "n1",`) {
		t.Errorf("got\n%s\nwant\n%s and the difference", got, want)
	}
	first(old).Args = []string{strings.Repeat("x", 1<<20)}
	p.Spec.Containers = old.Spec.Containers
	if got := textOf(rulesOf(t, podKind).Update(p, old)); len(got) > 2000 {
		t.Errorf("got an error of %d bytes, want a short one", len(got))
	}
}

func TestWhatANodeReportsOfAPodIsJudged(t *testing.T) {
	ended := func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}}
	}
	alive := func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	}
	runUpdates(t, podKind, updateStatus, updates[*corev1.Pod]{
		{"running", nil, alive, ""},
		{"back from the dead", ended, alive, "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"},
		{"restarted after a failure", func(p *corev1.Pod) { ended(p); p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, alive, ""},
		{"addresses", nil, func(p *corev1.Pod) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}}
			p.Status.HostIP, p.Status.HostIPs = "1.1.1.1", []corev1.HostIP{{IP: "1.1.1.2"}}
		}, "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family\nstatus.hostIPs[0].ip: Invalid value: \"1.1.1.2\": must be equal to `hostIP`"},
		{"another node", nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, "status.nodeName: Forbidden: may not be changed directly"},
		{"another class", nil, func(p *corev1.Pod) { p.Status.QOSClass = "Burstable" }, `status.qosClass: Invalid value: "Burstable": field is immutable`},
	})
}

func TestEphemeralContainersMayOnlyBeAdded(t *testing.T) {
	debug := func(name string) corev1.EphemeralContainer {
		return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(container(name, nil))}
	}
	old := stored[*corev1.Pod](t, podKind)
	p := old.DeepCopy()
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug("d1")}
	if got := textOf(validation.PodEphemeralContainers(p, old)); got != "" {
		t.Errorf("adding: got %s, want no errors", got)
	}
	old = p.DeepCopy()
	p.Spec.EphemeralContainers[0].Image = "other"
	if got, want := textOf(validation.PodEphemeralContainers(p, old)), "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d1\" may not be changed\n"; got != want {
		t.Errorf("changing: got %s, want %s", got, want)
	}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug("d2")}
	if got, want := textOf(validation.PodEphemeralContainers(p, old)), "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d1\" may not be removed\n"; got != want {
		t.Errorf("removing: got %s, want %s", got, want)
	}
}
