package uwsgi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
)

// response makes an answer of its head and of the bytes that were read beyond it.
func (e *exchange) response(h head, rest []byte) (*http.Response, error) {
	chunked, length, err := h.framing()
	if err != nil {
		return nil, &failure{op: "parsing the answer", err: err, remedy: "look at the application's headers"}
	}
	h.header.Del("Transfer-Encoding")
	if chunked {
		h.header.Del("Content-Length")
	} else if length >= 0 {
		h.header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	buffered, atOnce := e.t.accel(h.header)
	resp := &http.Response{
		Status: strings.TrimSpace(strconv.Itoa(h.status) + " " + h.reason), StatusCode: h.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h.header, ContentLength: length, Request: e.r,
	}
	if length == 0 || !hasBody(e.r.Method, h.status) {
		e.close()
		resp.Body = http.NoBody
		return resp, nil
	}
	if atOnce {
		// For reverse_proxy, an unknown length means to flush each write.
		resp.ContentLength = -1
	}
	source := io.MultiReader(bytes.NewReader(rest), e)
	switch {
	case chunked:
		// The reader need not see the last line end, which a worker may owe.
		source = &strictReader{source: httputil.NewChunkedReader(bufio.NewReader(source))}
	case length >= 0 && int64(len(rest)) >= length:
		e.close()
		resp.Body = io.NopCloser(bytes.NewReader(rest[:length]))
		return resp, nil
	case length >= 0:
		source = &lengthReader{source: source, left: length}
	}
	if !buffered {
		resp.Body = &directBody{Reader: source, e: e}
		return resp, nil
	}
	resp.Body = e.t.spool(source, e.close)
	return resp, nil
}

// hasBody reports whether a body follows the head of an answer.
func hasBody(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// accel takes nginx's headers out of an answer: whether to buffer it, and whether to flush it at once.
func (t *Transport) accel(header http.Header) (buffered, atOnce bool) {
	buffered, atOnce = !t.Unbuffered, t.Unbuffered
	switch strings.ToLower(header.Get("X-Accel-Buffering")) {
	case "no":
		buffered, atOnce = false, true
	case "yes":
		buffered, atOnce = true, false
	}
	header.Del("X-Accel-Buffering")
	if t.handled {
		return buffered, atOnce
	}
	for name := range header {
		if !strings.HasPrefix(name, "X-Accel-") {
			continue
		}
		if name == "X-Accel-Redirect" {
			t.warned.Do(func() {
				t.log.Warn("X-Accel-Redirect ignored", "remedy", "answer it with handle_response")
			})
		}
		delete(header, name)
	}
	return buffered, atOnce
}

// errCutBody is the error of a body that ends before its time.
var errCutBody = &failure{
	op: "reading the answer", err: io.ErrUnexpectedEOF,
	remedy: "look at uWSGI's log for a worker that was killed",
}

// lengthReader ends after the bytes that Content-Length announces. More are cut off, fewer are an error.
type lengthReader struct {
	source io.Reader
	left   int64
}

func (l *lengthReader) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.source.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	switch {
	case l.left == 0:
		err = io.EOF
	case errors.Is(err, io.EOF):
		err = errCutBody
	}
	return n, err
}

// strictReader gives the early end of a chunked body its explanation.
type strictReader struct{ source io.Reader }

func (s *strictReader) Read(p []byte) (int, error) {
	n, err := s.source.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCutBody
	}
	return n, err
}

// directBody passes the worker's bytes on without holding any.
type directBody struct {
	io.Reader
	e *exchange
}

func (d *directBody) Close() error {
	d.e.close()
	return nil
}
