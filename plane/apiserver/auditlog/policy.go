package auditlog

import (
	"net/url"
	"strings"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// rules says what is recorded, the first that matches counts. All of it is
// metadata: who, from where, what, when, and how it ended. Bodies hold Secrets.
func rules() *auditinternal.Policy {
	group := func(g string, resources ...string) []auditinternal.GroupResources {
		return []auditinternal.GroupResources{{Group: g, Resources: resources}}
	}
	writes := []string{"create", "update", "patch", "delete", "deletecollection", "connect", "proxy"}
	return &auditinternal.Policy{
		OmitManagedFields: true,
		OmitStages:        []auditinternal.Stage{auditinternal.StageRequestReceived},
		Rules: []auditinternal.PolicyRule{
			{Level: auditinternal.LevelNone, NonResourceURLs: []string{"/healthz*", "/livez*", "/readyz*", "/version*"}},
			// Heartbeats and the reports of nodes: thousands a second, and
			// NodeRestriction holds each to what is its own.
			{Level: auditinternal.LevelNone, UserGroups: []string{user.NodesGroup}, Resources: group("", "nodes/status", "pods/status")},
			{Level: auditinternal.LevelNone, UserGroups: []string{user.NodesGroup}, Resources: group("coordination.k8s.io", "leases")},
			{Level: auditinternal.LevelNone, Resources: group("", "events")},
			{Level: auditinternal.LevelNone, Resources: group("events.k8s.io", "events")},
			// Reading these is as good as being somebody else.
			{Level: auditinternal.LevelMetadata, Resources: group("", "secrets", "serviceaccounts/token")},
			{Level: auditinternal.LevelMetadata, Verbs: writes},
			{Level: auditinternal.LevelNone},
		},
	}
}

// evaluator asks the rules about everybody who has proved who they are. Who has
// not is always recorded.
type evaluator struct{ rules audit.PolicyRuleEvaluator }

func (e evaluator) EvaluatePolicyRule(attrs authorizer.Attributes) audit.RequestAuditConfig {
	if u := attrs.GetUser(); u == nil || u.GetName() == "" {
		return audit.RequestAuditConfig{Level: auditinternal.LevelMetadata, OmitStages: []auditinternal.Stage{auditinternal.StageRequestReceived}}
	}
	return e.rules.EvaluatePolicyRule(attrs)
}

// Policy says which requests are recorded, and how much of each.
func (l *Log) Policy() audit.PolicyRuleEvaluator {
	return evaluator{auditpolicy.NewPolicyRuleEvaluator(rules())}
}

// Bounds of what callers choose.
const (
	maxURI   = 4 << 10
	maxAgent = 512
)

// trim is the event without what a caller can make large, and without a token
// that somebody put in a URL.
func trim(e *auditinternal.Event) *auditinternal.Event {
	out := *e // shallow: only what is replaced below differs
	if path, query, ok := strings.Cut(out.RequestURI, "?"); ok && strings.Contains(strings.ToLower(query), "token") {
		values, err := url.ParseQuery(query)
		for name := range values {
			if strings.Contains(strings.ToLower(name), "token") && name != "continue" {
				values.Set(name, "REDACTED")
			}
		}
		if out.RequestURI = path + "?" + values.Encode(); err != nil {
			out.RequestURI = path + "?REDACTED"
		}
	}
	out.RequestURI = cut(out.RequestURI, maxURI)
	out.UserAgent = cut(out.UserAgent, maxAgent)
	return &out
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
