// Package cgi is the Common Gateway Interface without processes: what a request
// looks like in a program's environment, and what its output means. It knows RFC
// 3875; it never learns what runs the program.
//
//	env := cgi.Environment(r)
//	out := cgi.NewResponse(w) // the program's standard output
//	err := out.Finish()
//
// Source: RFC 3875. Where WAGI (WebAssembly Gateway Interface) adds or deviates
// we follow it: PATH_INFO is decoded, PATH_TRANSLATED is the same, and X_* names
// tell more.
package cgi

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Environment is the meta-variables of a request, as "K=V" each.
func Environment(r *http.Request) []string {
	remote, port, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	host, serverPort := r.Host, "80"
	if name, p, err := net.SplitHostPort(r.Host); err == nil {
		host, serverPort = name, p
	} else if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, p, err := net.SplitHostPort(local.String()); err == nil {
			serverPort = p
		}
	}
	env := []string{
		"GATEWAY_INTERFACE=CGI/1.1",
		"SERVER_SOFTWARE=copepod",
		"SERVER_PROTOCOL=" + r.Proto,
		"SERVER_NAME=" + host,
		"SERVER_PORT=" + serverPort,
		"REQUEST_METHOD=" + r.Method,
		"SCRIPT_NAME=",
		"PATH_INFO=" + r.URL.Path,
		"PATH_TRANSLATED=" + r.URL.Path,
		"QUERY_STRING=" + r.URL.RawQuery,
		"REQUEST_URI=" + r.URL.RequestURI(),
		"REMOTE_ADDR=" + remote,
		"REMOTE_HOST=" + remote,
		"REMOTE_PORT=" + port,
		"X_MATCHED_ROUTE=/...",
		"X_RAW_PATH_INFO=" + r.URL.EscapedPath(),
		"X_FULL_URL=http://" + r.Host + r.URL.RequestURI(),
		"HTTP_HOST=" + r.Host,
	}
	if r.ContentLength > 0 {
		env = append(env, "CONTENT_LENGTH="+strconv.FormatInt(r.ContentLength, 10))
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		env = append(env, "CONTENT_TYPE="+kind)
	}
	for name, values := range r.Header {
		if v := variable(name); v != "" {
			separator := ", "
			if name == "Cookie" {
				separator = "; "
			}
			env = append(env, v+"="+strings.Join(values, separator))
		}
	}
	// A zero byte would end a value early, in the guest's eyes.
	return slices.DeleteFunc(env, func(pair string) bool { return strings.Contains(pair, "\x00") })
}

// variable is the name of a header's variable, or nothing for headers that are
// not passed on: those that have a variable of their own; Proxy, since HTTP_PROXY
// means something else to many libraries; and names with an underscore, which
// could pass for another header's.
func variable(name string) string {
	switch name {
	case "Content-Type", "Content-Length", "Proxy", "Host":
		return ""
	}
	if strings.Contains(name, "_") {
		return ""
	}
	return "HTTP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
