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

// Host replaces the relay in tests: it gives input to a plugin's hooks and checks results as the relay does. The
// store and the counters last from call to call. The zero value is ready to use. Hooks of all hosts run one at a
// time. Host exists only outside WebAssembly. It does not check grants, which belong to the configuration of the
// relay.
type Host struct {
	// Config is the plugin's configuration, JSON; empty means null.
	Config string
	// Clock returns the time for the plugin; nil: the real time.
	Clock func() time.Time
	// Logged are the plugin's log lines.
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
	Group    string // empty: the original event's group
	Payload  string
	Audience uint64
}

// Result is the result of an event.
type Result struct {
	// Verdict is pass, drop, replace or failed.
	Verdict string
	// Payload is the event's payload or the replacement. It is empty with drop and failed.
	Payload string
	// Audience holds a bit for each class of subscribers that gets Payload.
	Audience uint64
	// Emitted are the emitted events, in order.
	Emitted []Emission
	// Err is the cause of the verdict failed.
	Err error
}

// Decision is the result of a request to subscribe.
type Decision struct {
	Allow  bool
	Class  uint8
	Reason string // of a denial
	Err    error  // of a failure, which denies the subscription
}

// running is held during a call: the hooks' variables are those of one instance.
var running sync.Mutex

// maxClass is the last class that an audience has a bit for.
const maxClass = 63

// call runs f with this host as the current one, and returns a panic as an error.
func (h *Host) call(group string, document []byte, effects bool, f func()) (err error) {
	running.Lock()
	defer running.Unlock()
	h.group, h.document, h.effects = group, document, effects
	h.audience, h.emitted = Everybody, nil
	current, kept = h, nil
	defer func() {
		current = nil
		if r := recover(); r != nil {
			err = fmt.Errorf("the plugin panicked: %v", r)
		}
	}()
	f()
	return nil
}

// Init runs the plugin's setup function.
func (h *Host) Init(setup func() error) (err error) {
	if failure := h.call("", nil, false, func() { err = setup() }); failure != nil {
		return failure
	}
	return err
}

// Event calls a hook with an event.
func (h *Host) Event(hook func(*Event) Verdict, group, payload string) Result {
	return h.verdict(group, payload, true, hook)
}

// Class calls a hook that renders an event for a class, 0 to 63.
func (h *Host) Class(hook func(uint8, *Event) Verdict, class uint8, group, payload string) Result {
	if class > maxClass {
		return Result{Verdict: "failed", Err: fmt.Errorf("class %d: classes are 0 to %d", class, maxClass)}
	}
	return h.verdict(group, payload, false, func(e *Event) Verdict { return hook(class, e) })
}

func (h *Host) verdict(group, payload string, effects bool, hook func(*Event) Verdict) Result {
	var v Verdict
	var out []byte
	err := h.call(group, []byte(payload), effects, func() {
		// A copy, which the plugin may change.
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
		err = fmt.Errorf("the plugin reported an error: %q", h.lastLine())
	case v>>32 == 0:
		err = fmt.Errorf("unknown verdict %#x", uint64(v))
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

// Subscribe asks a hook whether a user, given as a JSON value, may subscribe to a group.
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
		return Decision{Err: fmt.Errorf("the plugin reported an error: %q", h.lastLine())}
	case a>>32 != 0:
		return Decision{Reason: string(reason)}
	case a >= AllowAs(0) && a <= AllowAs(maxClass):
		return Decision{Allow: true, Class: uint8(a - AllowAs(0))}
	}
	return Decision{Err: fmt.Errorf("unknown answer %#x", uint64(a))}
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

// storeLimit is the relay's default, in bytes. Each entry counts 64 bytes in addition to its text.
const storeLimit = 1 << 20

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
