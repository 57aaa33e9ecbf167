package validation

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"
)

// sysctlName allows a sysctl's name with dots or slashes between its parts.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

const maxSysctlName = 253

// podSecurity judges spec.securityContext.
func (f *findings) podSecurity(spec *field.Path, s *corev1.PodSpec) {
	c, at := s.SecurityContext, spec.Child("securityContext")
	if c == nil {
		return
	}
	f.groupID(at.Child("fsGroup"), c.FSGroup)
	f.userID(at.Child("runAsUser"), c.RunAsUser)
	f.groupID(at.Child("runAsGroup"), c.RunAsGroup)
	for i, id := range c.SupplementalGroups {
		f.groupID(at.Child("supplementalGroups").Index(i), &id)
	}
	if s.HostPID && isTrue(s.ShareProcessNamespace) {
		f.invalid(at.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	f.sysctls(at.Child("sysctls"), s)
	if c.FSGroupChangePolicy != nil {
		unless(f, at.Child("fsGroupChangePolicy"), *c.FSGroupChangePolicy, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	f.seccomp(at.Child("seccompProfile"), c.SeccompProfile)
	f.windowsOptions(at.Child("windowsOptions"), c.WindowsOptions)
	f.appArmor(at.Child("appArmorProfile"), c.AppArmorProfile)
	if c.SupplementalGroupsPolicy != nil {
		unless(f, at.Child("supplementalGroupsPolicy"), *c.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if c.SELinuxChangePolicy != nil {
		unless(f, at.Child("seLinuxChangePolicy"), *c.SELinuxChangePolicy, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
}

func (f *findings) userID(at *field.Path, id *int64) {
	if id != nil {
		f.each(at, *id, validation.IsValidUserID(*id))
	}
}

func (f *findings) groupID(at *field.Path, id *int64) {
	if id != nil {
		f.each(at, *id, validation.IsValidGroupID(*id))
	}
}

func (f *findings) sysctls(at *field.Path, s *corev1.PodSpec) {
	names := seen[string]{}
	for i, c := range s.SecurityContext.Sysctls {
		at := at.Index(i).Child("name")
		switch {
		case c.Name == "":
			f.required(at, "")
		case len(c.Name) > maxSysctlName || !sysctlName.MatchString(c.Name):
			f.invalid(at, c.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctlName, sysctlName))
		case names.again(c.Name):
			f.duplicate(at, c.Name)
		}
		switch space, _, _ := sysctl.GetNamespace(c.Name); {
		case s.HostNetwork && space == sysctl.NetNamespace:
			f.invalid(at, c.Name, "may not be specified when 'hostNetwork' is true")
		case s.HostIPC && space == sysctl.IPCNamespace:
			f.invalid(at, c.Name, "may not be specified when 'hostIPC' is true")
		}
	}
}

// securityContext judges that of a container.
func (f *findings) securityContext(at *field.Path, c *corev1.SecurityContext, pod *corev1.PodSpec) {
	if c == nil {
		return
	}
	f.userID(at.Child("runAsUser"), c.RunAsUser)
	f.groupID(at.Child("runAsGroup"), c.RunAsGroup)
	if m := c.ProcMount; m != nil {
		unless(f, at.Child("procMount"), *m, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if *m == corev1.UnmaskedProcMount && (pod.HostUsers == nil || *pod.HostUsers) {
			f.invalid(at.Child("procMount"), *m, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	f.seccomp(at.Child("seccompProfile"), c.SeccompProfile)
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		if isTrue(c.Privileged) {
			f.invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if c.Capabilities != nil {
			for _, name := range c.Capabilities.Add {
				if name == "CAP_SYS_ADMIN" {
					f.invalid(at, c, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
					break
				}
			}
		}
	}
	f.windowsOptions(at.Child("windowsOptions"), c.WindowsOptions)
	f.appArmor(at.Child("appArmorProfile"), c.AppArmorProfile)
}

func (f *findings) seccomp(at *field.Path, p *corev1.SeccompProfile) {
	if p == nil {
		return
	}
	if p.Type == "" {
		f.required(at.Child("type"), "type is required when seccompProfile is set")
	} else {
		unless(f, at.Child("type"), p.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	local := at.Child("localhostProfile")
	switch {
	case p.Type != corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			f.invalid(local, p, "can only be set when seccomp type is Localhost")
		}
	case p.LocalhostProfile == nil:
		f.required(local, "must be set when seccomp type is Localhost")
	default:
		f.relativePath(local, *p.LocalhostProfile)
	}
}

func (f *findings) appArmor(at *field.Path, p *corev1.AppArmorProfile) {
	if p == nil {
		return
	}
	local := at.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		const longest = 4095 // of a path
		switch {
		case p.LocalhostProfile == nil || *p.LocalhostProfile == "":
			f.required(local, "must be set when AppArmor type is Localhost")
		case strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile:
			f.invalid(local, *p.LocalhostProfile, "must not be padded with whitespace")
		case len(*p.LocalhostProfile) > longest:
			f.add(field.TooLong(local, "", longest))
		}
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			f.invalid(local, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		f.required(at.Child("type"), "type is required when appArmorProfile is set")
	default:
		unless(f, at.Child("type"), p.Type, corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
}

// hostUsers: a pod with users of its own has no other namespace of the host.
func (f *findings) hostUsers(at *field.Path, s *corev1.PodSpec) {
	if s.HostUsers == nil || *s.HostUsers {
		return
	}
	const why = "when `hostUsers` is false"
	if s.HostNetwork {
		f.forbidden(at.Child("hostNetwork"), why)
	}
	if s.HostPID {
		f.forbidden(at.Child("hostPID"), why)
	}
	if s.HostIPC {
		f.forbidden(at.Child("hostIPC"), why)
	}
}
