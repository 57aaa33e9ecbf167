package server

import (
	"net/url"
	"testing"
	"time"
)

func FuzzLogOptionsNeverAskForLessThanNothing(f *testing.F) {
	for _, q := range []string{"follow=true&tailLines=10", "limitBytes=-1", "sinceSeconds=9223372036854775807", "sinceTime=2026-01-01T00:00:00Z", "%zz", "stream=Stdout"} {
		f.Add(q)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		opts, _, err := parseLogOptions(q, now)
		if err != nil {
			return
		}
		if (opts.Tail != nil && *opts.Tail < 0) || opts.Limit < 0 || (q.Get("sinceSeconds") != "" && opts.Since.After(now)) {
			t.Errorf("got %+v from %q", opts, query)
		}
	})
}
