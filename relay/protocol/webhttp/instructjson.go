package webhttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"
)

// wireInstruct is an instruction in JSON.
type wireInstruct struct {
	Hold     *wireHold     `json:"hold"`
	Response *wireResponse `json:"response"`
}

type wireHold struct {
	Mode     *string `json:"mode"`
	Channels *[]struct {
		Name    string   `json:"name"`
		PrevID  *string  `json:"prev-id"`
		Filters []string `json:"filters"`
	} `json:"channels"`
	Timeout   *seconds `json:"timeout"`
	KeepAlive *struct {
		Content    *string  `json:"content"`
		ContentBin *string  `json:"content-bin"`
		Timeout    *seconds `json:"timeout"`
		Mode       string   `json:"mode"`
	} `json:"keep-alive"`
	Meta map[string]string `json:"meta"`
}

// wireResponse is a response in JSON, of an instruction or of an item.
type wireResponse struct {
	Code    *int       `json:"code"`
	Reason  string     `json:"reason"`
	Headers wireHeader `json:"headers"`
	Body    *string    `json:"body"`
	BodyBin *string    `json:"body-bin"`
}

// seconds is a time in seconds, at least 0.
type seconds float64

func (s *seconds) duration() time.Duration {
	return time.Duration(min(float64(*s), maxHoldTimeout.Seconds()) * float64(time.Second))
}

func (s *seconds) UnmarshalJSON(b []byte) error {
	var n float64
	if err := json.Unmarshal(b, &n); err != nil || n < 0 || math.IsNaN(n) {
		return fmt.Errorf("invalid time %.32s; use seconds", b)
	}
	*s = seconds(n)
	return nil
}

// wireHeader is a list of headers: an object, or a list of pairs.
type wireHeader []pair

func (h *wireHeader) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'['}) {
		var list [][2]string
		var lengths [][]string
		if err := json.Unmarshal(b, &lengths); err != nil {
			return err
		}
		if slices.ContainsFunc(lengths, func(l []string) bool { return len(l) != 2 }) {
			return fmt.Errorf("headers: an element is no pair; use [name, value]")
		}
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		for _, p := range list {
			*h = append(*h, pair{p[0], p[1]})
		}
		return nil
	}
	var object map[string]string
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	for name, value := range object {
		*h = append(*h, pair{name, value})
	}
	slices.SortFunc(*h, func(a, b pair) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return nil
}

// readJSON reads the instruction in a body. Its members replace what the headers say.
func (in *instruct) readJSON(body []byte) error {
	var w wireInstruct
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("%s: %w", InstructType, err)
	}
	in.body, in.header = nil, http.Header{}
	if w.Hold != nil {
		if err := in.readHold(w.Hold); err != nil {
			return fmt.Errorf("%s: hold: %w", InstructType, err)
		}
	}
	r := w.Response
	if r == nil {
		return nil
	}
	if r.Code != nil {
		in.status = *r.Code
	}
	for _, p := range r.Headers {
		in.header.Add(p.name, p.value)
	}
	body, err := r.content()
	if err != nil {
		return fmt.Errorf("%s: response: %w", InstructType, err)
	}
	in.body = body
	return nil
}

// content returns the body of a response, nil without one.
func (r *wireResponse) content() (body []byte, err error) {
	switch {
	case r.BodyBin != nil:
		if body, err = base64.StdEncoding.DecodeString(*r.BodyBin); err != nil {
			return nil, fmt.Errorf("body-bin: %w", err)
		}
	case r.Body != nil:
		body = []byte(*r.Body)
	}
	return body, nil
}

func (in *instruct) readHold(w *wireHold) (err error) {
	in.mode = holdResponse
	if w.Mode != nil {
		if in.mode, err = parseMode(*w.Mode); err != nil {
			return err
		}
	}
	if w.Channels == nil {
		return fmt.Errorf(`channels are missing; add "channels": [{"name": …}]`)
	}
	for _, c := range *w.Channels {
		hold := channelHold{name: c.Name, filters: c.Filters, ordered: c.PrevID != nil}
		if hold.ordered {
			hold.prevID = *c.PrevID
		}
		in.addChannel(hold)
	}
	if w.Timeout != nil {
		in.timeout = w.Timeout.duration()
	}
	for name, value := range w.Meta {
		in.setMeta(name, value)
	}
	k := w.KeepAlive
	if k == nil {
		return nil
	}
	switch {
	case k.ContentBin != nil:
		if in.keepAlive, err = base64.StdEncoding.DecodeString(*k.ContentBin); err != nil {
			return fmt.Errorf("keep-alive: content-bin: %w", err)
		}
	case k.Content != nil:
		in.keepAlive = []byte(*k.Content)
	}
	in.keepEvery, in.keepRegular = defaultKeepAlive, k.Mode == "interval"
	if k.Timeout != nil {
		in.keepEvery = k.Timeout.duration()
	}
	return nil
}
