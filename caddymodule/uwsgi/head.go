package uwsgi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// head is the status and the headers of a response.
type head struct {
	status int
	reason string
	header http.Header
}

// parseHead parses the head at the beginning of b and returns the size of the head, or 0 if b ends within the head.
// A head without an HTTP status line is a CGI response: the header Status has the status.
func parseHead(b []byte) (h head, size int, err error) {
	h.header = http.Header{}
	for first := true; ; first = false {
		end := bytes.IndexByte(b[size:], '\n')
		if end < 0 {
			return h, 0, nil
		}
		line := string(bytes.TrimSuffix(b[size:size+end], []byte("\r")))
		size += end + 1
		switch {
		case first && strings.HasPrefix(line, "HTTP/"):
			if err := h.parseStatusLine(line); err != nil {
				return h, 0, err
			}
		case line != "":
			if err := h.parseField(line); err != nil {
				return h, 0, err
			}
		case first:
			return h, 0, errors.New("response begins with an empty line")
		case h.status == 0:
			if err := h.takeCGIStatus(); err != nil {
				return h, 0, err
			}
			return h, size, nil
		default:
			return h, size, nil
		}
	}
}

// parseStatusLine parses a line such as "HTTP/1.1 404 Not Found".
func (h *head) parseStatusLine(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	if _, _, ok := http.ParseHTTPVersion(version); !ok {
		return fmt.Errorf("malformed status line %.40q", line)
	}
	return h.setStatus(code, reason)
}

func (h *head) setStatus(code, reason string) error {
	status, err := strconv.ParseUint(code, 10, 16)
	if err != nil || len(code) != 3 || status < 100 {
		return fmt.Errorf("malformed status %.40q", code)
	}
	if !httpguts.ValidHeaderFieldValue(reason) {
		return fmt.Errorf("malformed reason %.40q", reason)
	}
	h.status, h.reason = int(status), reason
	return nil
}

// parseField parses a line such as "Content-Type: text/plain".
func (h *head) parseField(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("malformed header line %.40q", line)
	}
	value = textproto.TrimString(value)
	if !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("malformed value of header %.40q", name)
	}
	name = http.CanonicalHeaderKey(name)
	if name == "Status" && h.status != 0 {
		// The header repeats the status line.
		return nil
	}
	h.header[name] = append(h.header[name], value)
	return nil
}

// takeCGIStatus moves the status from the headers to h. Without one, the status is 302 with a Location, else 200.
func (h *head) takeCGIStatus() error {
	if status := h.header.Get("Status"); status != "" {
		h.header.Del("Status")
		code, reason, _ := strings.Cut(status, " ")
		return h.setStatus(code, reason)
	}
	h.status = http.StatusOK
	if h.header.Get("Location") != "" {
		h.status = http.StatusFound
	}
	return nil
}

// errLength is returned for an invalid Content-Length, and for different ones in one head.
var errLength = errors.New("malformed or ambiguous Content-Length")

// framing reports where the body ends: after the last chunk, after length bytes, or with the connection (length -1).
func (h *head) framing() (chunked bool, length int64, err error) {
	if codings := h.header["Transfer-Encoding"]; len(codings) > 0 {
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") {
			return false, 0, fmt.Errorf("transfer encoding %.40q is not supported", codings)
		}
		return true, -1, nil
	}
	lengths := h.header["Content-Length"]
	if len(lengths) == 0 {
		return false, -1, nil
	}
	for _, l := range lengths {
		if l != lengths[0] {
			return false, 0, errLength
		}
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil {
		return false, 0, errLength
	}
	return false, int64(n), nil
}
