package cgi_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"copepod/wasmrt/serve/cgi"
)

func TestARequestBecomesAnEnvironment(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "http://example.com:8080/a%20b/c?x=1&y=%32", strings.NewReader("body"))
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header = http.Header{
		"Content-Type": {"text/plain"}, "X-Two": {"a", "b"}, "Cookie": {"a=1", "b=2"},
		"Proxy": {"evil"}, "X_two": {"spoof"}, "X-Zero": {"a\x00b"},
	}
	env := cgi.Environment(r)
	for _, want := range []string{
		"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=POST", "SERVER_PROTOCOL=HTTP/1.1",
		"SERVER_NAME=example.com", "SERVER_PORT=8080", "SCRIPT_NAME=",
		"PATH_INFO=/a b/c", "PATH_TRANSLATED=/a b/c", "QUERY_STRING=x=1&y=%32",
		"REMOTE_ADDR=192.0.2.1", "REMOTE_HOST=192.0.2.1", "CONTENT_LENGTH=4", "CONTENT_TYPE=text/plain",
		"HTTP_X_TWO=a, b", "HTTP_COOKIE=a=1; b=2", "HTTP_HOST=example.com:8080",
		"X_RAW_PATH_INFO=/a%20b/c", "X_FULL_URL=http://example.com:8080/a%20b/c?x=1&y=%32",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is missing from %q", want, env)
		}
	}
	for _, pair := range env {
		if strings.HasPrefix(pair, "HTTP_PROXY=") || strings.Contains(pair, "spoof") || strings.Contains(pair, "\x00") {
			t.Errorf("got %q", pair)
		}
	}
}

func respond(t testing.TB, output string, size int) (*httptest.ResponseRecorder, error) {
	t.Helper()
	w := httptest.NewRecorder()
	r := cgi.NewResponse(w)
	for len(output) > 0 {
		n := min(size, len(output))
		if m, err := r.Write([]byte(output[:n])); m != n || err != nil {
			t.Fatalf("write: got %d, %v", m, err)
		}
		output = output[n:]
	}
	return w, r.Finish()
}

func TestOutputBecomesAResponse(t *testing.T) {
	for _, row := range []struct {
		output, body, header, value, err string
		status                           int
	}{
		{output: "Content-Type: text/plain\n\nhello\n\nyou", status: 200, body: "hello\n\nyou", header: "Content-Type", value: "text/plain"},
		{output: "Status: 404 Not here\r\nX-A:  b \r\n\r\n", status: 404, header: "X-A", value: "b"},
		{output: "Location: https://example.com/\n\n", status: 302, header: "Location", value: "https://example.com/"},
		{output: "Status: 301\nLocation: /x\n\n", status: 301, header: "Location", value: "/x"},
		{output: "", err: "wrote nothing"},
		{output: "Content-Type: text/plain\n", err: "no empty line"},
		{output: "hello world\n\n", err: "no header"},
		{output: "\nhello", err: "an empty head"},
		{output: "Status: 99\n\n", err: "status"},
		{output: "Status: two\n\n", err: "status"},
		{output: "X-A: b\x01\n\n", err: "control character"},
		{output: "X A: b\n\n", err: "no header"},
		{output: strings.Repeat("X-A: b\n", 20_000), err: "more than 65536 bytes"},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			w, err := respond(t, row.output, size)
			switch {
			case row.err != "":
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("%.40q: got %v, want %q", row.output, err, row.err)
				}
			case err != nil || w.Code != row.status || w.Body.String() != row.body || w.Header().Get(row.header) != row.value:
				t.Errorf("%.40q: got %d %v %q, %v", row.output, w.Code, w.Header(), w.Body, err)
			}
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add("Content-Type: text/plain\r\nStatus: 200 OK\r\n\r\nbody", 3)
	f.Add("\n\n", 1)
	f.Fuzz(func(t *testing.T, output string, size int) {
		w, err := respond(t, output, min(max(size, 1), 1<<16))
		whole, errWhole := respond(t, output, 1<<30)
		if (err == nil) != (errWhole == nil) || w.Code != whole.Code || w.Body.String() != whole.Body.String() {
			t.Errorf("%q in pieces of %d: got %d %q, %v; in one: %d %q, %v", output, size, w.Code, w.Body, err, whole.Code, whole.Body, errWhole)
		}
		for name, values := range w.Header() {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n") {
				t.Errorf("a line end in %q: %q", name, values)
			}
		}
	})
}
