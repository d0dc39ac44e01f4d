package publish

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// readBody reads the body of a request within the endpoint's limits. A nil problem with a nil body means that the
// client has gone.
func (e *Endpoint) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, &problem{
			Status: http.StatusUnsupportedMediaType, Reason: ReasonMediaType,
			Detail: "send Content-Type: application/json",
		}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &problem{
			Status: http.StatusUnsupportedMediaType, Reason: ReasonMediaType,
			Detail: "compressed bodies are not supported; send the body without Content-Encoding",
		}
	}
	if r.ContentLength > e.MaxBody {
		return nil, e.tooLarge()
	}
	deadline := time.Now().Add(e.bodyTimeout())
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(deadline) // not supported by every writer; the loop checks as well
	body, err := readUntil(http.MaxBytesReader(w, r.Body, e.MaxBody), int(max(r.ContentLength, 0)), deadline)
	var timeout net.Error
	switch {
	case err == nil:
		_ = control.SetReadDeadline(time.Time{})
		return body, nil
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, e.tooLarge()
	case errors.As(err, &timeout) && timeout.Timeout():
		w.Header().Set("Connection", "close")
		return nil, &problem{
			Status: http.StatusRequestTimeout, Reason: ReasonSlow,
			Detail: fmt.Sprintf("the body did not arrive within %v", e.bodyTimeout()),
		}
	}
	return nil, nil
}

func (e *Endpoint) tooLarge() *problem {
	return &problem{
		Status: http.StatusRequestEntityTooLarge, Reason: ReasonTooLarge,
		Detail: fmt.Sprintf("the body is longer than %d bytes; send several requests, or raise max_body", e.MaxBody),
	}
}

// slowError is the error for a body that is still arriving at its deadline.
type slowError struct{}

func (slowError) Error() string   { return "the body arrives too slowly" }
func (slowError) Timeout() bool   { return true }
func (slowError) Temporary() bool { return true }

// readUntil reads all of r. A server may extend the deadline of its connection with each read, so that the time is
// checked here as well.
func readUntil(r io.Reader, size int, deadline time.Time) ([]byte, error) {
	const least = 512
	b := make([]byte, 0, size+least)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, err
		case time.Now().After(deadline):
			return nil, slowError{}
		}
	}
}
