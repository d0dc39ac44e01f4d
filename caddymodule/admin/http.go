package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

const (
	// pageSize is the default length of a page, and maxPageSize the longest.
	pageSize    = 100
	maxPageSize = 1000
)

var (
	errNoConfig = caddy.APIError{
		HTTPStatus: http.StatusServiceUnavailable,
		Err: errors.New("finding the relay: the current configuration of this Caddy has no edgerelay; " +
			"add an edgerelay block to its global options, or use the address of the relay's Caddy"),
	}
	errDiagnosing = caddy.APIError{
		HTTPStatus: http.StatusConflict, Err: errors.New("another diagnosis is running; try again later"),
	}
)

// requireMethod returns an error if the request has another method.
func requireMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("use %s", method)}
}

// IntParameter returns a parameter of a query, or fallback if it is absent. A value that is no number from least to
// most is an error.
func IntParameter(q url.Values, name string, fallback, least, most int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("invalid %s %q; use a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

// rejectUnknownParameters returns an error for a parameter with another name. A filter with a typing error would match
// everything.
func rejectUnknownParameters(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown parameter %q; use %q", name, names)
		}
	}
	return nil
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

// WriteJSON writes a response with the status 200.
func WriteJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}
