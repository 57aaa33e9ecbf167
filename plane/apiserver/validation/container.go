package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var pullPolicies = []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}

var protocols = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// ephemeralFields are what a container may have that is added to a running pod:
// nothing that a pod would rely on.
var ephemeralFields = []string{
	"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY",
}

// podContext is what a container's rules need to know of its pod.
type podContext struct {
	spec    *corev1.PodSpec
	volumes volumeSources
	claims  *claimNames
	isPod   bool // not a template: what a template may leave open is decided
}

func (f *findings) allContainers(at *field.Path, pod *podContext) {
	names := seen[string]{}
	f.containers(at.Child("containers"), pod, names)
	f.initContainers(at.Child("initContainers"), pod, names)
	f.ephemeralContainers(at.Child("ephemeralContainers"), pod, names)
}

func (f *findings) containers(at *field.Path, pod *podContext, names seen[string]) {
	if len(pod.spec.Containers) == 0 {
		f.required(at, "")
		return
	}
	ports := seen[string]{}
	for i := range pod.spec.Containers {
		c, at := &pod.spec.Containers[i], at.Index(i)
		f.container(at, c, pod)
		if names.again(c.Name) {
			f.duplicate(at.Child("name"), c.Name)
		}
		f.lifecycle(at, c, pod)
		f.restartRules(at, c)
		f.hostPorts(at, c, ports)
	}
}

func (f *findings) initContainers(at *field.Path, pod *podContext, names seen[string]) {
	for i := range pod.spec.InitContainers {
		c, at := &pod.spec.InitContainers[i], at.Index(i)
		f.container(at, c, pod)
		if names.again(c.Name) {
			f.duplicate(at.Child("name"), c.Name)
		}
		f.hostPorts(at, c, seen[string]{}) // they run one after the other
		f.restartRules(at, c)
		if isSidecar(c) {
			f.lifecycle(at, c, pod)
			continue
		}
		for _, part := range []struct {
			name string
			set  bool
		}{
			{"lifecycle", c.Lifecycle != nil},
			{"livenessProbe", c.LivenessProbe != nil},
			{"readinessProbe", c.ReadinessProbe != nil},
			{"startupProbe", c.StartupProbe != nil},
		} {
			if part.set {
				f.forbidden(at.Child(part.name), "may not be set for init containers without restartPolicy=Always")
			}
		}
	}
}

// isSidecar says that an init container keeps running beside the others.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (f *findings) ephemeralContainers(at *field.Path, pod *podContext, names seen[string]) {
	targets := seen[string]{}
	for _, c := range pod.spec.Containers {
		targets[c.Name] = true
	}
	for _, c := range pod.spec.InitContainers {
		targets[c.Name] = true
	}
	for i := range pod.spec.EphemeralContainers {
		e, at := &pod.spec.EphemeralContainers[i], at.Index(i)
		c := (*corev1.Container)(&e.EphemeralContainerCommon)
		f.container(at, c, pod)
		f.trimmedImage(at, c, true)
		if names.again(e.Name) {
			f.duplicate(at.Child("name"), e.Name)
		}
		if e.TargetContainerName != "" && !targets[e.TargetContainerName] {
			f.add(field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		f.onlyFields(at, e.EphemeralContainerCommon, "cannot be set for an Ephemeral Container", ephemeralFields...)
		for j, m := range e.VolumeMounts {
			mount := at.Child("volumeMounts").Index(j)
			if m.SubPath != "" {
				f.forbidden(mount.Child("subPath"), "cannot be set for an Ephemeral Container")
			}
			if m.SubPathExpr != "" {
				f.forbidden(mount.Child("subPathExpr"), "cannot be set for an Ephemeral Container")
			}
		}
	}
}

// container judges what containers of all sorts have in common.
func (f *findings) container(at *field.Path, c *corev1.Container, pod *podContext) {
	if c.Name == "" {
		f.required(at.Child("name"), "")
	} else {
		f.label(at.Child("name"), c.Name)
	}
	f.notEmpty(at.Child("image"), c.Image)
	oneOf(f, at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	f.containerPorts(at.Child("ports"), c.Ports)
	f.env(at.Child("env"), c.Env)
	f.envFrom(at.Child("envFrom"), c.EnvFrom)
	f.mounts(at.Child("volumeMounts"), c, pod.volumes)
	f.devices(at.Child("volumeDevices"), c, pod.volumes)
	oneOf(f, at.Child("imagePullPolicy"), c.ImagePullPolicy, pullPolicies...)
	f.resources(at.Child("resources"), &c.Resources, pod.claims)
	f.resizePolicy(at.Child("resizePolicy"), c.ResizePolicy, pod.spec.RestartPolicy)
	f.securityContext(at.Child("securityContext"), c.SecurityContext, pod.spec)
}

// trimmedImage is for pods only: templates with a blank image are about, whose
// image something else fills in.
func (f *findings) trimmedImage(at *field.Path, c *corev1.Container, isPod bool) {
	if isPod && strings.TrimSpace(c.Image) != c.Image {
		f.invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace")
	}
}

func (f *findings) containerPorts(at *field.Path, ports []corev1.ContainerPort) {
	names := seen[string]{}
	for i, p := range ports {
		at := at.Index(i)
		if p.Name != "" {
			if reasons := validation.IsValidPortName(p.Name); len(reasons) > 0 {
				f.each(at.Child("name"), p.Name, reasons)
			} else if names.again(p.Name) {
				f.duplicate(at.Child("name"), p.Name)
			}
		}
		if p.ContainerPort == 0 {
			f.required(at.Child("containerPort"), "")
		} else {
			f.portNumber(at.Child("containerPort"), p.ContainerPort)
		}
		if p.HostPort != 0 {
			f.portNumber(at.Child("hostPort"), p.HostPort)
		}
		oneOf(f, at.Child("protocol"), p.Protocol, protocols...)
	}
}

func (f *findings) hostPorts(at *field.Path, c *corev1.Container, taken seen[string]) {
	for i, p := range c.Ports {
		if p.HostPort == 0 {
			continue
		}
		if port := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort); taken.again(port) {
			f.duplicate(at.Child("ports").Index(i).Child("hostPort"), port)
		}
	}
}

// restartRules judges how a container is restarted apart from its pod's policy
// (KEP-5307).
func (f *findings) restartRules(at *field.Path, c *corev1.Container) {
	if c.RestartPolicy != nil {
		unless(f, at.Child("restartPolicy"), *c.RestartPolicy, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever)
	} else if len(c.RestartPolicyRules) > 0 {
		f.required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")
	}
	const maxRules, maxCodes = 20, 255
	rules := at.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > maxRules {
		f.add(field.TooMany(rules, len(c.RestartPolicyRules), maxRules))
	}
	for i, r := range c.RestartPolicyRules {
		at := rules.Index(i)
		oneOf(f, at.Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart)
		if r.ExitCodes == nil {
			f.required(at.Child("exitCodes"), "must be specified")
			continue
		}
		oneOf(f, at.Child("exitCodes", "operator"), r.ExitCodes.Operator, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
		if n := len(r.ExitCodes.Values); n > maxCodes {
			f.add(field.TooMany(at.Child("exitCodes", "values"), n, maxCodes))
		}
	}
}
