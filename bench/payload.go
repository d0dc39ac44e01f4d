//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// firstSeq is the sequence number of a session's first event. Ten digits give the number a fixed place and width in
// valid JSON.
const firstSeq = 1_000_000_001

// minPayload is the smallest event that holds the three fields.
const minPayload = len(`{"seq":1000000001,"t":1700000000000000,"pad":""}`)

const (
	seqAt  = len(`{"seq":`)
	seqEnd = seqAt + 10
	timeAt = seqEnd + len(`,"t":`)
	timeTo = timeAt + 16
)

// source creates the events of one session: numbered without a gap, of one size, stamped with their time of creation.
type source struct {
	next int64 // sequence number of the next event
	pad  []byte
	size int
	// text makes the member pad, a JSON value, of an event of about some bytes; nil: a text of the same letter.
	text func(size int) []byte
}

func newSource() *source { return &source{next: firstSeq} }

// resize sets the length in bytes of future events.
func (s *source) resize(size int) {
	s.size = size
	s.pad = bytes.Repeat([]byte("x"), max(0, size-minPayload))
}

// last is the sequence number of the newest event, firstSeq-1 before the first.
func (s *source) last() int64 { return s.next - 1 }

// event returns a new event. The caller owns the bytes.
func (s *source) event() []byte {
	b := make([]byte, 0, minPayload+len(s.pad))
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, s.next, 10)
	b = append(b, `,"t":`...)
	b = strconv.AppendInt(b, time.Now().UnixMicro(), 10)
	b = append(b, `,"pad":`...)
	if s.text != nil {
		b = append(b, s.text(s.size)...)
	} else {
		b = append(append(append(b, '"'), s.pad...), '"')
	}
	s.next++
	return append(b, '}')
}

// parseEvent reads an event's sequence number and its time in Unix microseconds. ok is false for any other text.
func parseEvent(b []byte) (seq, micros int64, ok bool) {
	if len(b) > timeTo && string(b[:seqAt]) == `{"seq":` && string(b[seqEnd:timeAt]) == `,"t":` {
		seq, ok = digits(b[seqAt:seqEnd])
		if !ok {
			return 0, 0, false
		}
		micros, ok = digits(b[timeAt:timeTo])
		return seq, micros, ok
	}
	if seq, micros, ok = parseSpaced(b); ok {
		return seq, micros, true
	}
	// A server that re-encodes the JSON may change blanks and order.
	var e struct {
		Seq, T int64
		Pad    *string
	}
	if json.Unmarshal(b, &e) != nil || e.Seq < firstSeq || e.Pad == nil {
		return 0, 0, false
	}
	return e.Seq, e.T, true
}

// parseSpaced is parseEvent for an event that Python's json.dumps has written.
func parseSpaced(b []byte) (seq, micros int64, ok bool) {
	const blanks = 3
	if len(b) <= timeTo+blanks || string(b[:seqAt+1]) != `{"seq": ` || string(b[seqEnd+1:timeAt+blanks]) != `, "t": ` {
		return 0, 0, false
	}
	if seq, ok = digits(b[seqAt+1 : seqEnd+1]); !ok {
		return 0, 0, false
	}
	micros, ok = digits(b[timeAt+blanks : timeTo+blanks])
	return seq, micros, ok
}

func digits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// sizeName formats an event size for people.
func sizeName(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}
