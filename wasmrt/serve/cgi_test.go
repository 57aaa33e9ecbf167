package serve_test

import (
	"net/http"
	"strings"
	"testing"

	"copepod/wasmrt/serve"
)

func TestACGIProgramGetsTheRequestAndGivesTheResponse(t *testing.T) {
	s := newServer(t, goGuest(t, "program"), serve.CGI, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.web.URL+"/here?a=1&b=2", strings.NewReader("the body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Agent", "tester")
	resp, err := s.web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 201 || resp.Header.Get("X-Method") != "PUT" ||
		!strings.Contains(b.String(), "query=a=1&b=2 agent=tester body=the body") {
		t.Errorf("got %s", b.String())
	}
}

func TestACGIProgramThatFailsIsAnErrorOfTheServer(t *testing.T) {
	s := newServer(t, goGuest(t, "program"), serve.CGI, nil)
	for path, want := range map[string]struct {
		status int
		log    string
	}{
		"/fail":   {500, "exit code 3"},
		"/silent": {502, "the program wrote nothing"},
		"/panic":  {500, "as it was asked"},
	} {
		s.expect(path, want.status, "")
		if !strings.Contains(s.log.String(), want.log) {
			t.Errorf("%s: the log lacks %q: %s", path, want.log, s.log)
		}
	}
	s.expect("/a%00b", 400, "zero byte")
	s.expect("/", 201, "count=1")
}

func TestACGIProgramNeedNotReadItsInput(t *testing.T) {
	s := newServer(t, cGuest(t, "program"), serve.CGI, nil)
	for range 3 {
		if a := s.do(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100_000))); a.status != 200 || !strings.HasPrefix(a.body, "count=1") {
			t.Errorf("got %d %q", a.status, a.body)
		}
	}
}
