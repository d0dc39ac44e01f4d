package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// fromAdmin reports whether a response can be that of Caddy's admin API. Any other web server answers on its address,
// too, often with a success for every path.
func fromAdmin(path string, resp *http.Response) bool {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return false
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch kind {
	case "application/json", "application/x-ndjson":
		return true
	}
	return isText(path)
}

// isText reports whether Caddy's own endpoint at a path returns text: the metrics and profiles.
func isText(path string) bool { return path == "/metrics" || strings.HasPrefix(path, "/debug/") }

// noAdmin returns the error for a response that is not one of Caddy's admin API. cause describes the response.
func (p adminAddress) noAdmin(cause string) error {
	return fmt.Errorf("calling the admin API at %s (%s): not Caddy's admin API, %s; set --address",
		p.shown(), p.origin, cause)
}

// describeResponse returns the status and the type of a response.
func describeResponse(resp *http.Response) string {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "" {
		kind = "no content type"
	}
	return fmt.Sprintf("but a response with status %d and %s", resp.StatusCode, printable(kind))
}

// readError returns the error of a response with a status of 400 or more, and closes the response. It is an
// [adminError] if it comes from the admin API.
func (p adminAddress) readError(path string, resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	e := &adminError{status: resp.StatusCode}
	var err error
	// Any other error leaves a part of the body, which may tell the sender.
	if e.body, err = io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes)); errors.As(err, new(*bodyError)) {
		return err
	}
	var decoded struct{ Error, Status string }
	switch err := json.Unmarshal(e.body, &decoded); {
	case err == nil && decoded.Error+decoded.Status != "":
		e.message = decoded.Error
		return e
	case isText(path) && resp.StatusCode != http.StatusNotFound:
		e.message = strings.TrimSpace(string(e.body))
		return e
	// Go's own answer to an unknown path, which Caddy's admin API gives without the module of the relay.
	case resp.StatusCode == http.StatusNotFound && strings.TrimSpace(string(e.body)) == "404 page not found":
		return p.noAdmin("or a Caddy without edgerelay")
	}
	return p.noAdmin(describeResponse(resp))
}

// decodeResponse decodes a response of the admin API, which is JSON.
func decodeResponse(address, path string, body io.Reader, result any) error {
	err := json.NewDecoder(body).Decode(result)
	switch {
	case errors.As(err, new(*bodyError)):
		return err
	case errors.As(err, new(*json.UnmarshalTypeError)):
		return mismatch(path, err)
	case err != nil:
		return resolveAdmin(address).noAdmin(fmt.Sprintf("since the response to %s cannot be decoded (%v)", path, err))
	}
	return nil
}

// mismatch returns the error for JSON of the admin API that this version of the command does not know.
func mismatch(path string, err error) error {
	return fmt.Errorf("decoding the response to %s: %w; use the command of the relay's own binary, or set --address",
		path, err)
}
