package outbound

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// Outcome is how a request ended.
type Outcome uint8

// Outcomes.
const (
	Responded   Outcome = iota // there is a response, whatever its status
	Denied                     // the policy does not allow the request
	Invalid                    // the request is not well formed
	TooLarge                   // the request or the response is beyond its bound
	Busy                       // too many requests are in flight, or the rate is exceeded
	Unavailable                // there is no response, or it came too late; the server may have got the request
)

// Result is the end of a request.
type Result struct {
	Outcome Outcome
	// Status is the HTTP status of the response, 100 to 599.
	Status int
	// Body is the body of the response, or what [Request.ResponseHeaders] describes.
	Body []byte
	// Reason tells why there is no response. It has no part of the request besides the host, and none of the response.
	Reason string
}

func failed(o Outcome, reason string) Result { return Result{Outcome: o, Reason: reason} }

// withHeaders returns the body of a result for a request that asks for headers.
func withHeaders(names []string, header http.Header, body []byte) ([]byte, error) {
	out := struct {
		Headers map[string]string `json:"headers"`
		Body    any               `json:"body"`
	}{Headers: map[string]string{}}
	for _, name := range names {
		if values := header.Values(name); len(values) > 0 {
			out.Headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\ufffd")
		}
	}
	if json.Valid(body) {
		out.Body = json.RawMessage(body)
	} else {
		out.Body = string(bytes.ToValidUTF8(body, []byte("\ufffd")))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(out)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
