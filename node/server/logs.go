package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"copepod/node/logs"
	"copepod/node/pods"
)

// containerLogs streams the log of a container, as the kubelet's endpoint of the
// same name does.
func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	opts, previous, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := &stream{w: w, control: http.NewResponseController(w)}
	_ = out.control.SetWriteDeadline(time.Time{})
	err = s.cfg.Pods.ReadLogs(r.Context(), out, r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), previous, opts)
	var noContainer *pods.NoContainerError
	var waiting *pods.WaitingError
	switch {
	case err == nil:
		out.begin()
	case out.begun:
		if r.Context().Err() == nil {
			s.cfg.Log.Debug("log stream broke", "pod", r.PathValue("pod"), "err", err)
		}
		panic(http.ErrAbortHandler) // the reader must not take this for the end
	case errors.As(err, &noContainer), errors.As(err, &waiting):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, pods.ErrNotFound), errors.Is(err, logs.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// stream is an answer of which nothing is sent before the first byte is there,
// so that what goes wrong before can still be a status code. A reader that takes
// nothing for a while is cut off.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/plain")
		s.w.WriteHeader(http.StatusOK)
	}
}

func (s *stream) Write(p []byte) (int, error) {
	s.begin()
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.w.Write(p)
}

// Flush sends what there is; a reader of logs calls it before it waits for more.
func (s *stream) Flush() {
	s.begin()
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = s.control.Flush()
	_ = s.control.SetWriteDeadline(time.Time{}) // a log may be silent for days
}

// parseLogOptions reads the query of a log request: the fields of PodLogOptions.
func parseLogOptions(q url.Values, now time.Time) (opts logs.Options, previous bool, err error) {
	for name, to := range map[string]*bool{"follow": &opts.Follow, "timestamps": &opts.Timestamps, "previous": &previous} {
		if *to, err = flag(q, name); err != nil {
			return opts, previous, err
		}
	}
	if opts.Tail, err = number(q, "tailLines", 0); err != nil {
		return opts, previous, err
	}
	limit, err := number(q, "limitBytes", 1)
	if err != nil {
		return opts, previous, err
	}
	if limit != nil {
		opts.Limit = *limit
	}
	seconds, err := number(q, "sinceSeconds", 1)
	if err != nil {
		return opts, previous, err
	}
	if seconds != nil {
		opts.Since = now.Add(-time.Duration(min(*seconds, maxSeconds)) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" {
		if seconds != nil {
			return opts, previous, errors.New("at most one of sinceTime or sinceSeconds may be specified")
		}
		if opts.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return opts, previous, fmt.Errorf("sinceTime %q: want a time as RFC 3339 has it", text)
		}
	}
	switch stream := q.Get("stream"); stream {
	case "", "All":
	case "Stdout":
		opts.Stream = logs.Stdout
	case "Stderr":
		opts.Stream = logs.Stderr
	default:
		return opts, previous, fmt.Errorf("stream %q: want All, Stdout or Stderr", stream)
	}
	return opts, previous, nil
}

const maxSeconds = 100 * 365 * 24 * 3600

func flag(q url.Values, name string) (bool, error) {
	text := q.Get(name)
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%s %q: want true or false", name, text)
	}
	return on, nil
}

func number(q url.Values, name string, least int64) (*int64, error) {
	text := q.Get(name)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		return nil, fmt.Errorf("%s %q: want a number of at least %d", name, text, least)
	}
	return &n, nil
}
