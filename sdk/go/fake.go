//go:build !wasm

package edgerelay

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Host stands in for the relay in tests: it gives a plugin's hooks what the relay would, and judges results as the relay does. Its
// store and counters last from call to call. The zero value is ready; hooks run one at a time, whatever the number of hosts.
// It exists only outside WebAssembly. Grants are not checked, they are the matter of whoever runs the plugin.
type Host struct {
	// Config is the plugin's configuration, JSON; empty means null.
	Config string
	// Clock is what the plugin is told of the time; nil: the real one.
	Clock func() time.Time
	// Logged are the lines that the plugin logged.
	Logged []string
	// Metrics are the plugin's counters.
	Metrics map[string]int64

	store    map[string]entry
	document []byte
	group    string
	effects  bool
	audience uint64
	emitted  []Emission
}

type entry struct {
	value   string
	expires time.Time
}

// Emission is an event that a plugin emitted.
type Emission struct {
	Group    string // empty: the event's own
	Payload  string
	Audience uint64
}

// Result is what came of an event.
type Result struct {
	// Verdict is pass, drop, replace or failed.
	Verdict string
	// Payload is what goes on: the event's own, or its replacement. Empty with drop and failed.
	Payload string
	// Audience holds a bit for each class of subscribers that gets Payload.
	Audience uint64
	// Emitted are further events, in order.
	Emitted []Emission
	// Err tells why the verdict is failed.
	Err error
}

// Decision is what came of a request to subscribe.
type Decision struct {
	Allow  bool
	Class  uint8
	Reason string // of a denial
	Err    error  // of a failure, which denies
}

var running sync.Mutex

// call runs f with the host in place, and turns a panic into an error.
func (h *Host) call(group string, document []byte, effects bool, f func()) (err error) {
	running.Lock()
	defer running.Unlock()
	h.group, h.document, h.effects = group, document, effects
	h.audience, h.emitted = Everybody, nil
	current, kept = h, nil
	defer func() {
		current = nil
		if r := recover(); r != nil {
			err = fmt.Errorf("the plugin panics: %v", r)
		}
	}()
	f()
	return nil
}

// Init runs what the plugin does at its start.
func (h *Host) Init(setup func() error) (err error) {
	if broken := h.call("", nil, false, func() { err = setup() }); broken != nil {
		return broken
	}
	return err
}

// Event gives an event to a hook.
func (h *Host) Event(hook func(*Event) Verdict, group, payload string) Result {
	return h.verdict(group, payload, true, hook)
}

// Class lets a hook render an event for a class.
func (h *Host) Class(hook func(uint8, *Event) Verdict, class uint8, group, payload string) Result {
	return h.verdict(group, payload, false, func(e *Event) Verdict { return hook(class, e) })
}

func (h *Host) verdict(group, payload string, effects bool, hook func(*Event) Verdict) Result {
	var v Verdict
	var out []byte
	err := h.call(group, []byte(payload), effects, func() {
		// The plugin's copy is its own to change.
		v = hook(&Event{Group: group, Document: Document{Payload: []byte(payload)}})
		out = kept
	})
	r := Result{Audience: h.audience, Emitted: h.emitted}
	switch {
	case err != nil:
	case v == Pass:
		r.Verdict, r.Payload = "pass", payload
	case v == Drop:
		r.Verdict = "drop"
	case v == Error:
		err = fmt.Errorf("the plugin reports an error: %q", h.lastLine())
	case v>>32 == 0:
		err = fmt.Errorf("%#x is no verdict", uint64(v))
	case !utf8.Valid(out):
		err = fmt.Errorf("the replacement is not UTF-8: %q", out)
	default:
		r.Verdict, r.Payload = "replace", string(out)
	}
	if err != nil {
		return Result{Verdict: "failed", Err: err}
	}
	return r
}

// Subscribe asks a hook whether a user, a JSON value, may subscribe to a group.
func (h *Host) Subscribe(hook func(*Request) Answer, user, group string) Decision {
	request := []byte(`{"user":` + user + `,"group":` + strconv.Quote(group) + `}`)
	var a Answer
	var reason []byte
	err := h.call("", request, false, func() {
		a = hook(&Request{Document{Payload: append([]byte(nil), request...)}})
		reason = kept
	})
	switch {
	case err != nil:
		return Decision{Err: err}
	case a == Allow:
		return Decision{Allow: true}
	case a == Deny:
		return Decision{}
	case a == AnswerFailed:
		return Decision{Err: fmt.Errorf("the plugin reports an error: %q", h.lastLine())}
	case a>>32 != 0:
		return Decision{Reason: string(reason)}
	case a >= AllowAs(0) && a <= AllowAs(63):
		return Decision{Allow: true, Class: uint8(a - AllowAs(0))}
	}
	return Decision{Err: fmt.Errorf("%#x is no answer", uint64(a))}
}

func (h *Host) lastLine() string {
	if len(h.Logged) == 0 {
		return "it logged nothing"
	}
	return h.Logged[len(h.Logged)-1]
}

func (h *Host) config() []byte {
	if h.Config == "" {
		return []byte("null")
	}
	return []byte(h.Config)
}

func (h *Host) now() time.Time {
	if h.Clock == nil {
		return time.Now()
	}
	return h.Clock()
}

func (h *Host) restrict(mask uint64) {
	if h.effects {
		h.audience &= mask
	}
}

var (
	groupName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,99}$`)
	metricName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)
)

func (h *Host) emit(group string, payload []byte, mask uint64) int32 {
	switch {
	case !h.effects:
		return 0
	case len(h.emitted) >= 16:
		return int32(ErrTooMany)
	case len(payload) > 1<<20:
		return int32(ErrTooLong)
	case group != "" && group != h.group && !groupName.MatchString(group), !utf8.Valid(payload):
		return int32(ErrName)
	}
	if group == h.group {
		group = ""
	}
	h.emitted = append(h.emitted, Emission{group, string(payload), mask})
	return 0
}

func (h *Host) count(name string, delta int64) int32 {
	if delta < 0 || !metricName.MatchString(name) {
		return -1
	}
	if _, ok := h.Metrics[name]; !ok && len(h.Metrics) >= 32 {
		return -2
	}
	if h.Metrics == nil {
		h.Metrics = map[string]int64{}
	}
	h.Metrics[name] += delta
	return 0
}

const storeLimit = 1 << 20 // as the relay has it unless set; an entry counts 64 bytes more than its text

func (h *Host) get(key string) (string, bool) {
	e, ok := h.store[key]
	if ok && !e.expires.IsZero() && !h.now().Before(e.expires) {
		delete(h.store, key)
		return "", false
	}
	return e.value, ok
}

func (h *Host) set(key, value string, ttl int64) int32 {
	if value == "" {
		delete(h.store, key)
		return 0
	}
	var expires time.Time
	if ttl > 0 {
		expires = h.now().Add(time.Duration(ttl) * time.Millisecond)
	}
	return h.put(key, entry{value, expires})
}

func (h *Host) put(key string, e entry) int32 {
	size := len(key) + len(e.value) + 64
	for k := range h.store {
		if v, ok := h.get(k); ok && k != key {
			size += len(k) + len(v) + 64
		}
	}
	if size > storeLimit {
		return -1
	}
	if h.store == nil {
		h.store = map[string]entry{}
	}
	h.store[key] = e
	return 0
}

func (h *Host) incr(key string, delta, ttl int64) int64 {
	old, ok := h.get(key)
	if !ok {
		if h.set(key, strconv.FormatInt(delta, 10), ttl) != 0 {
			return math.MinInt64
		}
		return delta
	}
	n, err := strconv.ParseInt(old, 10, 64)
	if err != nil || h.put(key, entry{strconv.FormatInt(n+delta, 10), h.store[key].expires}) != 0 {
		return math.MinInt64
	}
	return n + delta
}
