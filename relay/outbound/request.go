package outbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxRequestText     = 64 << 10 // bytes of a request's JSON
	maxURL             = 8 << 10  // bytes
	maxResponseHeaders = 16       // that a request may ask for
	maxOnce            = 256      // bytes of Request.Once
)

// Request is a request as its author writes it.
type Request struct {
	// Method is the HTTP method. Default: GET, or POST if there is a body.
	Method string `json:"method"`
	// URL begins with https:// or http://.
	URL string `json:"url"`
	// Headers have one value per name.
	Headers map[string]string `json:"headers"`
	// TimeoutMS is how long the request may take, in milliseconds, if that is less than the policy's timeout.
	TimeoutMS int64 `json:"timeout_ms"`
	// ResponseHeaders are names of headers of the response. If there are any, the result's body is the JSON object
	// {"headers": {…}, "body": …}: with the names in lower case, and the body as JSON if it is JSON, or else as a string.
	ResponseHeaders []string `json:"response_headers"`
	// Once identifies what the request is about, for callers that make only one of several equal requests. A client
	// ignores it.
	Once string `json:"once"`

	url    *url.URL
	origin origin
}

// Parse reads a request from JSON. The error says what is wrong, without values from the request.
func Parse(text []byte) (*Request, error) {
	if len(text) > maxRequestText {
		return nil, fmt.Errorf("the request has more than %d bytes", maxRequestText)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the request is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	r := new(Request)
	if err := d.Decode(r); err != nil {
		return nil, errors.New("the request is not a JSON object with method, url, headers, timeout_ms, " +
			"response_headers and once")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the request is more than one JSON object")
	}
	return r, r.check()
}

func (r *Request) check() error {
	if r.Method != "" && (!isToken(r.Method) || strings.ToUpper(r.Method) != r.Method) {
		return errors.New("the method is not a word in upper case")
	}
	if r.TimeoutMS < 0 || r.TimeoutMS > maxTimeout.Milliseconds() {
		return fmt.Errorf("timeout_ms is not from 0 to %d", maxTimeout.Milliseconds())
	}
	if len(r.Once) > maxOnce {
		return fmt.Errorf("once has more than %d bytes", maxOnce)
	}
	if len(r.ResponseHeaders) > maxResponseHeaders || slices.ContainsFunc(r.ResponseHeaders, func(name string) bool {
		return !isToken(name)
	}) {
		return fmt.Errorf("response_headers are more than %d, or not names of headers", maxResponseHeaders)
	}
	if len(r.URL) > maxURL {
		return fmt.Errorf("the url has more than %d bytes", maxURL)
	}
	if strings.ContainsFunc(r.URL, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }) {
		return errors.New("the url has spaces, control characters, backslashes or letters that are not ASCII; escape them")
	}
	u, err := url.Parse(r.URL)
	if err != nil { // the error shows the URL, which may hold secrets
		return errors.New("the url is not a URL")
	}
	if r.origin, err = originOf(u); err != nil {
		return fmt.Errorf("the url: %w", err)
	}
	u.Fragment, u.RawFragment = "", ""
	// The host that was checked is the host that is dialed.
	u.Host = r.origin.address()
	r.url = u
	return nil
}

// Host is the host of the request's URL.
func (r *Request) Host() string { return r.origin.host }

// address returns host and port as a URL has them: without the default port.
func (o origin) address() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.scheme == "https" && o.port == "443" || o.scheme == "http" && o.port == "80" {
		return host
	}
	return host + ":" + o.port
}

// timeout returns how long the request may take.
func (r *Request) timeout(limit time.Duration) time.Duration {
	if r.TimeoutMS == 0 {
		return limit
	}
	return min(limit, time.Duration(r.TimeoutMS)*time.Millisecond)
}
