package logs

import (
	"bytes"
	"errors"
	"time"
)

// Stream is where a line was written.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// stamp is RFC 3339 with nine digits always, as the CRI format has it.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// entry is one line of a log file.
type entry struct {
	time    time.Time
	stream  Stream
	partial bool // the line goes on in the next entry of its stream
	text    []byte
}

// appendEntry appends the line of an entry to buf.
func appendEntry(buf []byte, e entry) []byte {
	buf = e.time.UTC().AppendFormat(buf, stamp)
	buf = append(buf, ' ')
	buf = append(buf, e.stream...)
	if e.partial {
		buf = append(buf, " P "...)
	} else {
		buf = append(buf, " F "...)
	}
	buf = append(buf, e.text...)
	return append(buf, '\n')
}

// overhead bounds what appendEntry adds to the text.
const overhead = len(stamp) + len(" stdout F \n")

var errLine = errors.New("not a line of a container log")

// parseEntry reads a line without its newline. The text is part of line.
func parseEntry(line []byte) (entry, error) {
	when, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return entry{}, errLine
	}
	at, err := time.Parse(time.RFC3339Nano, string(when))
	if year := at.UTC().Year(); err != nil || year < 0 || year > 9999 {
		return entry{}, errLine
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	e := entry{time: at, stream: Stream(stream)}
	if !ok || (e.stream != Stdout && e.stream != Stderr) {
		return entry{}, errLine
	}
	tags, text, _ := bytes.Cut(rest, []byte(" "))
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	switch string(tag) {
	case "F":
	case "P":
		e.partial = true
	default:
		return entry{}, errLine
	}
	e.text = text
	return e, nil
}
