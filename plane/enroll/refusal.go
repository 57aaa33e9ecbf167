package enroll

import "fmt"

// A Code says in one word why a request was refused; the message says what to do.
type Code string

const (
	CodeMalformed   Code = "malformed"   // no request of ours looks like it
	CodeUnknown     Code = "unknown"     // token
	CodeExpired     Code = "expired"     // token
	CodeUsedUp      Code = "used-up"     // token
	CodeLocked      Code = "locked"      // token, after too many wrong secrets
	CodeName        Code = "name"        // not one that a node can have
	CodeTaken       Code = "taken"       // name
	CodeAddress     Code = "address"     // is not where the connection comes from
	CodeIndirect    Code = "indirect"    // came through another machine: go to Refusal.Servers
	CodeVersion     Code = "version"     // too far from ours
	CodeClock       Code = "clock"       // too far from ours
	CodeRequest     Code = "request"     // for a certificate is not as it must be
	CodeRevoked     Code = "revoked"     // key or certificate
	CodeStranger    Code = "stranger"    // no certificate of a member
	CodeSlower      Code = "slower"      // too many requests: later
	CodeUnavailable Code = "unavailable" // the plane cannot write now: later
)

// A Refusal is what a plane answers instead of certificates.
type Refusal struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Servers []string `json:"servers,omitempty"` // with CodeIndirect: host:port
}

func (r *Refusal) Error() string { return r.Message }

// Passes tells whether the same request may succeed a little later.
func (r *Refusal) Passes() bool { return r.Code == CodeSlower || r.Code == CodeUnavailable }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
