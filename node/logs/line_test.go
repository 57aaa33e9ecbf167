package logs

import (
	"bytes"
	"testing"
)

// OpenFiles is how many files are open, for tests.
func (s *Store) OpenFiles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.Len()
}

func FuzzEntriesSurviveBeingWrittenAgain(f *testing.F) {
	for _, seed := range []string{
		"2026-01-01T00:00:00.000000000Z stdout F hello world",
		"2026-01-01T00:00:00.123456789+02:00 stderr P part",
		"2026-01-01T00:00:00Z stdout F:x with a tag to come",
		"2026-01-01T00:00:00Z stdout F", "", " ", "x stdout F y",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return // lines have none
		}
		e, err := parseEntry(line)
		if err != nil {
			return
		}
		again, err := parseEntry(bytes.TrimSuffix(appendEntry(nil, e), []byte{'\n'}))
		if err != nil || !again.time.Equal(e.time) || again.stream != e.stream || again.partial != e.partial || !bytes.Equal(again.text, e.text) {
			t.Errorf("got %+v (%v) after writing, want %+v", again, err, e)
		}
	})
}
