//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

type serviceOp string

// Operations of services, by the names of the host's functions.
const (
	opGet    serviceOp = "shared_get"
	opSet    serviceOp = "shared_set"
	opSwap   serviceOp = "shared_swap"
	opAdd    serviceOp = "shared_add"
	opPush   serviceOp = "shared_push"
	opList   serviceOp = "shared_list"
	opAlarm  serviceOp = "alarm_set"
	opCancel serviceOp = "alarm_cancel"
	opFetch  serviceOp = "fetch"
)

// grant returns the grant that an operation needs.
func (op serviceOp) grant() string {
	switch op {
	case opAlarm, opCancel:
		return "alarms"
	case opFetch:
		return "fetch"
	}
	return "shared"
}

// serviceRequest is a request of a plugin.
type serviceRequest struct {
	op                   serviceOp
	key, value, expected string
	number, ttl          int64 // the number is a limit or a delta
	at                   time.Time
	context              string
	client               *TestClient
}

// PendingAlarm is an alarm that is set.
type PendingAlarm struct {
	Name, Payload string
	At            time.Time
	// Failures counts the calls that failed. The alarm comes again a second later.
	Failures int
}

// ask keeps a request until the hook has succeeded, and returns a token.
func (h *Host) ask(r serviceRequest) int64 {
	h.need(r.op.grant())
	switch {
	case len(r.context) > maxContext:
		return int64(ErrTooLarge)
	case h.replaying():
		return int64(ErrNoClient)
	case h.hook == hookInit || h.hook == hookClass:
		return int64(ErrMalformed)
	case len(h.effects.requests) >= maxRequests:
		return int64(ErrLimit)
	}
	r.client = h.client
	h.effects.requests = append(h.effects.requests, r)
	h.tokens++
	return h.tokens
}

// settle carries out all requests, closes clients, and so on, until nothing is left to do.
func (h *Host) settle() {
	for len(h.ending) > 0 || len(h.queue) > 0 && !h.HoldResponses {
		if len(h.ending) > 0 {
			end := h.ending[0]
			h.ending = h.ending[1:]
			end()
			continue
		}
		h.respond()
	}
}

// Respond gives the responses that [Host.HoldResponses] held back.
func (h *Host) Respond() {
	held := h.HoldResponses
	h.HoldResponses = false
	h.settle()
	h.HoldResponses = held
}

// respond carries out the oldest request.
func (h *Host) respond() {
	r := h.queue[0]
	h.queue = h.queue[1:]
	status, body := h.serve(&r)
	name, context, named := strings.Cut(r.context, "\x00")
	if !named {
		return
	}
	hook := h.hooks().OnResult[name]
	h.context = r.context
	err := h.effectful("on_result", r.client, []byte(body), func() error {
		if hook == nil {
			return unknownContinuation(name)
		}
		return hook(&Client{}, &Response{status, context, Document{[]byte(body)}})
	})
	h.context = ""
	h.fail(r.client, err)
}

// fail keeps a failure with the client, or with the host.
func (h *Host) fail(c *TestClient, err error) {
	switch {
	case err == nil:
	case c != nil:
		c.Err = err
	default:
		h.Err = err
	}
}

// serve carries out a request.
func (h *Host) serve(r *serviceRequest) (status int32, body string) {
	if r.op == opFetch {
		return h.serveFetch(r)
	}
	if h.Unavailable {
		return StatusUnavailable, ""
	}
	switch r.op {
	case opAlarm:
		h.Alarms = slices.DeleteFunc(h.Alarms, func(a PendingAlarm) bool { return a.Name == r.key })
		h.Alarms = append(h.Alarms, PendingAlarm{Name: r.key, Payload: r.value, At: r.at})
		return StatusOK, ""
	case opCancel:
		n := len(h.Alarms)
		h.Alarms = slices.DeleteFunc(h.Alarms, func(a PendingAlarm) bool { return a.Name == r.key })
		if len(h.Alarms) == n {
			return StatusNone, ""
		}
		return StatusOK, ""
	}
	return h.shared.serve(h, r)
}

// sharedStore is the shared store. Lists are JSON arrays.
type sharedStore map[string]sharedEntry

type sharedEntry struct {
	value   string
	list    []string
	isList  bool
	expires time.Time
}

func (s *sharedStore) get(h *Host, key string) (sharedEntry, bool) {
	e, ok := (*s)[key]
	if ok && !e.expires.IsZero() && !h.now().Before(e.expires) {
		delete(*s, key)
		return sharedEntry{}, false
	}
	return e, ok
}

func (s *sharedStore) put(key string, e sharedEntry) {
	if *s == nil {
		*s = sharedStore{}
	}
	(*s)[key] = e
}

func (s *sharedStore) serve(h *Host, r *serviceRequest) (status int32, body string) {
	e, ok := s.get(h, r.key)
	isListOp := r.op == opPush || r.op == opList
	if ok && e.isList != isListOp && r.op != opSet {
		return StatusInvalid, ""
	}
	switch r.op {
	case opGet:
		if !ok {
			return StatusNone, ""
		}
		return StatusOK, e.value
	case opSwap:
		if e.value != r.expected {
			return StatusConflict, e.value
		}
		s.set(h, r)
	case opSet:
		s.set(h, r)
	case opAdd:
		return s.add(h, r, e, ok)
	case opPush:
		if !ok {
			e = sharedEntry{isList: true}
		}
		e.list, e.expires = append(slices.Clone(e.list), r.value), h.expiry(r.ttl)
		e.list = e.list[max(0, len(e.list)-int(r.number)):]
		s.put(r.key, e)
	case opList:
		list := append([]string{}, e.list[max(0, len(e.list)-int(r.number)):]...)
		text, _ := json.Marshal(list)
		return StatusOK, string(text)
	}
	return StatusOK, ""
}

func (s *sharedStore) set(h *Host, r *serviceRequest) {
	if r.value == "" {
		delete(*s, r.key)
		return
	}
	s.put(r.key, sharedEntry{value: r.value, expires: h.expiry(r.ttl)})
}

func (s *sharedStore) add(h *Host, r *serviceRequest, e sharedEntry, ok bool) (int32, string) {
	n := int64(0)
	if ok {
		var err error
		if n, err = strconv.ParseInt(e.value, 10, 64); err != nil {
			return StatusInvalid, ""
		}
	} else {
		e.expires = h.expiry(r.ttl)
	}
	e.value = strconv.FormatInt(n+r.number, 10)
	s.put(r.key, e)
	return StatusOK, e.value
}

// SharedValue returns a value of the shared store; of a list, the JSON array.
func (h *Host) SharedValue(key string) (string, bool) {
	e, ok := h.shared.get(h, key)
	if e.isList {
		text, _ := json.Marshal(e.list)
		return string(text), ok
	}
	return e.value, ok
}

// SetShared stores a value in the shared store, as another node may.
func (h *Host) SetShared(key, value string) { h.shared.put(key, sharedEntry{value: value}) }

func (h *Host) serveFetch(r *serviceRequest) (status int32, body string) {
	var parts struct {
		Method, URL, Once string
		Headers           map[string]string
	}
	if err := json.Unmarshal([]byte(r.key), &parts); err != nil {
		return StatusInvalid, ""
	}
	request := HTTPRequest{Method: parts.Method, URL: parts.URL, Body: r.value, Once: parts.Once}
	for name, value := range parts.Headers {
		request.Header = append(request.Header, name, value)
	}
	h.Fetched = append(h.Fetched, request)
	if h.Fetch == nil {
		return StatusUnavailable, ""
	}
	return h.Fetch(request)
}

// ring calls the plugin for the alarms that are due, in the order of their times, and sets the clock to each.
func (h *Host) ring(until time.Time) {
	for {
		next := -1
		for i, a := range h.Alarms {
			if !a.At.After(until) && (next < 0 || a.At.Before(h.Alarms[next].At)) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		alarm := h.Alarms[next]
		h.Alarms = slices.Delete(h.Alarms, next, next+1)
		if alarm.At.After(h.now()) {
			h.time = alarm.At
		}
		err := h.alarm(alarm)
		if err != nil && !slices.ContainsFunc(h.Alarms, func(a PendingAlarm) bool { return a.Name == alarm.Name }) {
			alarm.At, alarm.Failures = h.now().Add(time.Second), alarm.Failures+1
			h.Alarms = append(h.Alarms, alarm)
		}
		h.settle()
	}
}

func (h *Host) alarm(a PendingAlarm) error {
	hook := h.hooks().OnAlarm
	if hook == nil {
		return nil
	}
	err := h.ready()
	if err == nil {
		err = h.effectful("on_alarm", nil, []byte(a.Payload), func() error {
			return hook(&Alarm{a.Name, Document{[]byte(a.Payload)}})
		})
	}
	if err != nil {
		err = fmt.Errorf("alarm %s: %w", a.Name, err)
	}
	h.fail(nil, err)
	return err
}
