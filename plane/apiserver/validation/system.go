package validation

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// operatingSystem judges what goes with spec.os.
func (f *findings) operatingSystem(at *field.Path, s *corev1.PodSpec) {
	if s.OS == nil {
		return
	}
	switch s.OS.Name {
	case "":
		f.required(at.Child("os", "name"), "cannot be empty")
	case corev1.Linux:
		f.linux(at, s)
	case corev1.Windows:
		f.windows(at, s)
	default:
		unless(f, at.Child("os"), s.OS.Name, corev1.Linux, corev1.Windows)
	}
}

func (f *findings) linux(at *field.Path, s *corev1.PodSpec) {
	const why = "windows options cannot be set for a linux pod"
	if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
		f.forbidden(at.Child("securityContext", "windowsOptions"), why)
	}
	visit(at, s, func(at *field.Path, c *corev1.Container) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			f.forbidden(at.Child("securityContext", "windowsOptions"), why)
		}
	})
}

func (f *findings) windows(at *field.Path, s *corev1.PodSpec) {
	const why = "cannot be set for a windows pod"
	if c := s.SecurityContext; c != nil {
		f.onlyFields(at.Child("securityContext"), *c, why, "WindowsOptions", "RunAsNonRoot")
	}
	if s.HostUsers != nil {
		f.forbidden(at.Child("hostUsers"), why)
	}
	if s.HostPID {
		f.forbidden(at.Child("hostPID"), why)
	}
	if s.HostIPC {
		f.forbidden(at.Child("hostIPC"), why)
	}
	if s.ShareProcessNamespace != nil {
		f.forbidden(at.Child("shareProcessNamespace"), why)
	}
	visit(at, s, func(at *field.Path, c *corev1.Container) {
		if c.SecurityContext != nil {
			f.onlyFields(at.Child("securityContext"), *c.SecurityContext, why, "WindowsOptions", "RunAsNonRoot")
		}
	})
}

// How the two halves of DOMAIN\user look.
var (
	controlChars = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSName  = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsName      = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	userChars    = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	onlyDots     = regexp.MustCompile(`^[\. ]+$`)
)

func (f *findings) windowsOptions(at *field.Path, o *corev1.WindowsSecurityContextOptions) {
	if o == nil {
		return
	}
	if o.GMSACredentialSpecName != nil {
		f.subdomain(at.Child("gmsaCredentialSpecName"), *o.GMSACredentialSpecName)
	}
	if s := o.GMSACredentialSpec; s != nil {
		const longestKiB = 64
		if *s == "" {
			f.invalid(at.Child("gmsaCredentialSpec"), *s, "gmsaCredentialSpec cannot be an empty string")
		} else if len(*s) > longestKiB*1024 {
			f.invalid(at.Child("gmsaCredentialSpec"), *s, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", longestKiB))
		}
	}
	if o.RunAsUserName != nil {
		f.windowsUser(at.Child("runAsUserName"), *o.RunAsUserName)
	}
}

func (f *findings) windowsUser(at *field.Path, name string) {
	const longestDomain, longestUser = 256, 104
	switch {
	case name == "":
		f.invalid(at, name, "runAsUserName cannot be an empty string")
		return
	case controlChars.MatchString(name):
		f.invalid(at, name, "runAsUserName cannot contain control characters")
		return
	case strings.Count(name, `\`) > 1:
		f.invalid(at, name, "runAsUserName cannot contain more than one backslash")
		return
	}
	domain, user, hasDomain := strings.Cut(name, `\`)
	if !hasDomain {
		domain, user = "", name
	}
	if len(domain) >= longestDomain {
		f.invalid(at, name, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", longestDomain))
	}
	if hasDomain && !netBIOSName.MatchString(domain) && !dnsName.MatchString(domain) {
		f.invalid(at, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	if user == "" {
		f.invalid(at, name, "runAsUserName's User cannot be empty")
	} else if len(user) > longestUser {
		f.invalid(at, name, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", longestUser))
	}
	if onlyDots.MatchString(user) {
		f.invalid(at, name, "runAsUserName's User cannot contain only periods or spaces")
	}
	if userChars.MatchString(user) {
		f.invalid(at, name, `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
}
