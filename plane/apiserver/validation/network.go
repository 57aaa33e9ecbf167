package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Bounds of a resolver's configuration, from what libc reads.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

func (f *findings) dnsConfig(at *field.Path, s *corev1.PodSpec) {
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			f.required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
		if len(c.Nameservers) == 0 {
			f.required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
	}
	if c == nil {
		return
	}
	if len(c.Nameservers) > maxNameservers {
		f.invalid(at.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers))
	}
	for i, server := range c.Nameservers {
		f.ip(at.Child("nameservers").Index(i), server)
	}
	if len(c.Searches) > maxSearches {
		f.invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchChars {
		f.invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars))
	}
	for i, domain := range c.Searches {
		if domain != "." {
			domain = strings.TrimSuffix(domain, ".")
			f.each(at.Child("searches").Index(i), domain, validation.IsDNS1123SubdomainWithUnderscore(domain))
		}
	}
	for i, option := range c.Options {
		if option.Name == "" {
			f.required(at.Child("options").Index(i), "must not be empty")
		}
	}
}

func (f *findings) hostAliases(at *field.Path, aliases []corev1.HostAlias) {
	for i, alias := range aliases {
		f.ip(at.Index(i).Child("ip"), alias.IP)
		for j, host := range alias.Hostnames {
			f.subdomain(at.Index(i).Child("hostnames").Index(j), host)
		}
	}
}

// ordinaryIP refuses addresses that mean the machine itself, or a link.
func (f *findings) ordinaryIP(at *field.Path, value string) {
	ip := netutils.ParseIPSloppy(value)
	if ip == nil {
		f.invalid(at, value, "must be a valid IP address")
		return
	}
	if ip.IsUnspecified() {
		f.invalid(at, value, fmt.Sprintf("may not be unspecified (%v)", value))
	}
	if ip.IsLoopback() {
		f.invalid(at, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
	}
	if ip.IsLinkLocalUnicast() {
		f.invalid(at, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	}
	if ip.IsLinkLocalMulticast() {
		f.invalid(at, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
}

// atMostOneOfEachFamily judges the addresses of something with two stacks.
func (f *findings) atMostOneOfEachFamily(at *field.Path, ips []string, shown any) {
	if len(ips) < 2 {
		return
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		f.add(field.InternalError(at, fmt.Errorf("failed to check for dual stack with error:%w", err)))
	}
	if !dual || len(ips) > 2 {
		f.invalid(at, shown, "may specify no more than one IP for each IP family")
	}
}
