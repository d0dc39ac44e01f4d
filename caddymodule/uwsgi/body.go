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

// buildResponse returns the response with the head h. rest are the bytes that were read beyond the head.
func (e *exchange) buildResponse(h head, rest []byte) (*http.Response, error) {
	chunked, length, err := h.framing()
	if err != nil {
		return nil, &failure{op: "parsing the response", err: err, remedy: "check the application's response headers"}
	}
	h.header.Del("Transfer-Encoding")
	if chunked {
		h.header.Del("Content-Length")
	} else if length >= 0 {
		h.header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	buffered, flush := e.t.takeAccelHeaders(h.header)
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
	if flush {
		// reverse_proxy flushes each write of a response of unknown length.
		resp.ContentLength = -1
	}
	source := io.MultiReader(bytes.NewReader(rest), e)
	switch {
	case chunked:
		// A ChunkedReader ends with the last chunk. It does not wait for the final CRLF, which a worker may omit.
		source = &truncationReader{source: httputil.NewChunkedReader(bufio.NewReader(source))}
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

// hasBody reports whether a response to the method with the status has a body.
func hasBody(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// takeAccelHeaders removes nginx's X-Accel headers from a response. It reports whether to buffer the response, and
// whether to flush each write. Where the site has a handle_response, only X-Accel-Buffering is removed.
func (t *Transport) takeAccelHeaders(header http.Header) (buffered, flush bool) {
	buffered, flush = !t.Unbuffered, t.Unbuffered
	switch strings.ToLower(header.Get("X-Accel-Buffering")) {
	case "no":
		buffered, flush = false, true
	case "yes":
		buffered, flush = true, false
	}
	header.Del("X-Accel-Buffering")
	if t.handlesResponses {
		return buffered, flush
	}
	for name := range header {
		if !strings.HasPrefix(name, "X-Accel-") {
			continue
		}
		if name == "X-Accel-Redirect" {
			t.warnOnce.Do(func() {
				t.log.Warn("X-Accel-Redirect ignored", "remedy", "process the header with handle_response")
			})
		}
		delete(header, name)
	}
	return buffered, flush
}

// errTruncatedBody is returned for a body that ends before its announced length or its last chunk.
var errTruncatedBody = &failure{
	op: "reading the response", err: io.ErrUnexpectedEOF,
	remedy: "check uWSGI's log for a killed worker",
}

// lengthReader reads the number of bytes that Content-Length announces. Bytes beyond the length are dropped, and an
// earlier end is an error.
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
		err = errTruncatedBody
	}
	return n, err
}

// truncationReader replaces the error of a truncated chunked body by errTruncatedBody, which names the remedy.
type truncationReader struct{ source io.Reader }

func (s *truncationReader) Read(p []byte) (int, error) {
	n, err := s.source.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errTruncatedBody
	}
	return n, err
}

// directBody is an unbuffered body: each Read reads from the worker.
type directBody struct {
	io.Reader
	e *exchange
}

func (d *directBody) Close() error {
	d.e.close()
	return nil
}
