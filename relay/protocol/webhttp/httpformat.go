package webhttp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// streamFormat is an http-stream: the part of an item for clients of a held stream.
type streamFormat struct {
	// action is actionSend, actionClose or actionHint.
	action  action
	content []byte
	// filtered is set if the publisher names the filters that have changed the content.
	filtered bool
	filters  []string
}

// parseStreamFormat parses an http-stream.
func parseStreamFormat(raw []byte) (f *streamFormat, err error) {
	var w wireFormat
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("http-stream: %w", err)
	}
	f = &streamFormat{}
	switch w.Action {
	case "", "send":
	case "close":
		f.action = actionClose
		return f, nil
	case "hint", "refresh":
		f.action = actionHint
		return f, nil
	default:
		return nil, fmt.Errorf("http-stream: unknown action %.32q; use send, close or hint", w.Action)
	}
	if f.filtered = w.Filters != nil; f.filtered {
		f.filters = *w.Filters
	}
	switch {
	case w.ContentBin != nil:
		if f.content, err = base64.StdEncoding.DecodeString(*w.ContentBin); err != nil {
			return nil, fmt.Errorf("http-stream: content-bin: %w", err)
		}
	case w.Content != nil:
		f.content = []byte(*w.Content)
	default:
		return nil, errors.New("http-stream: content is missing; add content or content-bin")
	}
	return f, nil
}

// responseFormat is an http-response: the part of an item for clients that wait for a response.
type responseFormat struct {
	// action is actionSend or actionHint.
	action action
	status int
	header wireHeader
	body   []byte
	// patch, unless nil, changes the body of the site's own response.
	patch    jsonPatch
	filtered bool
	filters  []string
}

// parseResponseFormat parses an http-response.
func parseResponseFormat(raw []byte) (f *responseFormat, err error) {
	var w struct {
		wireResponse
		Action  string     `json:"action"`
		Patch   *jsonPatch `json:"body-patch"`
		Filters *[]string  `json:"content-filters"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fmt.Errorf("http-response: %w", err)
	}
	f = &responseFormat{status: http.StatusOK, header: w.Headers}
	switch w.Action {
	case "", "send":
	case "hint", "refresh":
		f.action = actionHint
		return f, nil
	default:
		return nil, fmt.Errorf("http-response: unknown action %.32q; use send or hint", w.Action)
	}
	if w.Code != nil {
		f.status = *w.Code
	}
	if !validStatus(f.status) {
		return nil, fmt.Errorf("http-response: code %d is none of a response; use 200 to 599", f.status)
	}
	if f.filtered = w.Filters != nil; f.filtered {
		f.filters = *w.Filters
	}
	switch {
	case w.Body != nil || w.BodyBin != nil:
		if f.body, err = w.content(); err != nil {
			return nil, fmt.Errorf("http-response: %w", err)
		}
	case w.Patch != nil:
		if f.patch = *w.Patch; f.patch == nil {
			f.patch = jsonPatch{}
		}
	default:
		return nil, errors.New("http-response: body is missing; add body, body-bin or body-patch")
	}
	return f, nil
}

// validStatus reports whether a status can be that of a client's final response.
func validStatus(status int) bool { return 200 <= status && status <= 999 }
