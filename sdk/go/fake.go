//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Host replaces the relay in tests: it gives input to a plugin's hooks and checks results as the relay does. The
// store and the counters last from call to call. The zero value is ready to use. Hooks of all hosts run one at a
// time. Host exists only outside WebAssembly. It counts no fuel and limits no memory.
type Host struct {
	// Config is the plugin's configuration, JSON; empty means null.
	Config string
	// Grants are the plugin's grants: emit, metrics, kv, clock, tick. A call that needs another one fails. Nil: all.
	Grants []string
	// Clock returns the time for the plugin; nil: the real time. See also [Host.SetTime].
	Clock func() time.Time
	// Source and Sent are how the next events reached the node, layer, peer or history, and when the emitter sent them.
	// Their zero values mean that neither is known.
	Source string
	Sent   time.Time
	// Position is the place of the next events in the history of their group, a token; empty: they have none.
	Position string
	// Hops is how often the next events have been sent from group to group. The relay allows four times.
	Hops int
	// MaxResult limits a replacement and each emitted event, in bytes; 0: 1 MiB, or eight times the input if that is
	// more.
	MaxResult int
	// JSON requires that replacements are JSON.
	JSON bool
	// StoreLimit limits the key-value store, in bytes of keys and values; 0: 1 MiB. Each entry counts 64 bytes more.
	StoreLimit int

	// Hooks are the hooks that clients, responses and alarms call; nil: those that package function has registered.
	Hooks *Hooks
	// Joins and Publishes are patterns of the groups that the plugin may join and publish to. Nil: all.
	Joins, Publishes []string
	// Fetch answers HTTP requests, with a status of HTTP or one below 0; nil: no server is available.
	Fetch func(HTTPRequest) (status int32, body string)
	// Unavailable makes the shared store and the alarms fail with [StatusUnavailable].
	Unavailable bool
	// HoldResponses keeps requests unanswered until [Host.Respond].
	HoldResponses bool

	// Published and Fetched are what the plugin published and requested of servers. Alarms are the alarms that are set;
	// [Host.Advance] calls the plugin when they are due.
	Published []Publication
	Fetched   []HTTPRequest
	Alarms    []PendingAlarm
	// Err is the last failure of an alarm, or of a continuation without a client.
	Err error

	// Logged are the plugin's log lines.
	Logged []LogLine
	// Metrics are the plugin's counters.
	Metrics map[string]int64

	time     time.Time // of SetTime
	store    map[string]entry
	document []byte
	group    string
	hook     string
	limit    int // bytes of a result
	audience uint64
	emitted  []Emission

	started     bool // whether the setup has run
	connections int
	noGroup     bool // a join was refused
	clients     []*TestClient
	client      *TestClient // of the call
	effects     effects     // of the call
	context     string      // of the request whose response the call gets
	auto        map[string]string
	queue       []serviceRequest // requests without a response yet
	ending      []func()         // clients that the plugin closed
	tokens      int64
	shared      sharedStore
}

type entry struct {
	value   string
	expires time.Time
}

// LogLine is a line that a plugin logged.
type LogLine struct {
	Level Level
	Text  string // at most 4 KiB
}

// String returns the line as in a log, such as "warn: the store is full".
func (l LogLine) String() string {
	levels := [...]string{"debug", "info", "warn", "error"}
	return levels[min(max(l.Level, 0), LevelError)] + ": " + l.Text
}

// SetTime sets the plugin's clock, which then stands still until [Host.SetTime] or [Host.Advance]. It overrides Clock.
func (h *Host) SetTime(t time.Time) { h.time = t }

// Advance moves the plugin's clock on from its present time, and stops it there. The plugin gets its alarms on the way.
func (h *Host) Advance(d time.Duration) {
	until := h.now().Add(d)
	h.ring(until)
	h.time = until
}

// Stored returns a value of the plugin's store.
func (h *Host) Stored(key string) (string, bool) { return h.get(key) }

// Emission is an event that a plugin emitted.
type Emission struct {
	Group    string // empty: the original event's group
	Payload  string
	Audience uint64
	Position string // that the plugin has given the event; empty with [Emit]
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

// Names of hooks, as in samples.
const (
	hookInit      = "ev_init"
	hookEvent     = "on_event"
	hookClass     = "on_class"
	hookSubscribe = "on_subscribe"
	hookTick      = "on_tick"
)

// call runs f with this host as the current one, and returns a panic as an error.
func (h *Host) call(hook, group string, document []byte, f func()) (err error) {
	running.Lock()
	defer running.Unlock()
	h.hook, h.group, h.document = hook, group, document
	h.audience, h.emitted, h.effects = Everybody, nil, effects{}
	h.limit = h.MaxResult
	if h.limit == 0 {
		h.limit = max(1<<20, 8*(len(group)+len(document)))
	}
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
	if failure := h.call(hookInit, "", nil, func() { err = setup() }); failure != nil {
		return failure
	}
	return err
}

// Event calls a hook with an event.
func (h *Host) Event(hook func(*Event) Verdict, group, payload string) Result {
	return h.verdict(hookEvent, group, payload, hook)
}

// Class calls a hook that renders an event for a class, 0 to 63.
func (h *Host) Class(hook func(uint8, *Event) Verdict, class uint8, group, payload string) Result {
	if class > maxClass {
		return Result{Verdict: "failed", Err: fmt.Errorf("class %d: classes are 0 to %d", class, maxClass)}
	}
	return h.verdict(hookClass, group, payload, func(e *Event) Verdict { return hook(class, e) })
}

// Tick calls a hook as the relay does at each interval. The verdict is pass or failed.
func (h *Host) Tick(hook func() error) Result {
	var failure error
	err := h.call(hookTick, "", nil, func() { failure = hook() })
	switch {
	case err != nil:
	case !h.granted("tick"):
		err = missing("tick")
	case failure != nil:
		err = fmt.Errorf("the plugin reported an error: %w", failure)
	default:
		h.succeed()
		return Result{Verdict: "pass", Audience: Everybody, Emitted: h.emitted}
	}
	return Result{Verdict: "failed", Err: err}
}

func (h *Host) verdict(name, group, payload string, hook func(*Event) Verdict) Result {
	var v Verdict
	var out []byte
	err := h.call(name, group, []byte(payload), func() {
		text := []byte(payload) // a copy, which the plugin may change
		v = hook(&Event{Group: group, Document: Document{Payload: text}, arrived: text})
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
		err = fmt.Errorf("the plugin reported an error: %s", h.lastLine())
	case v>>32 == 0:
		err = fmt.Errorf("unknown verdict %#x", uint64(v))
	default:
		err = h.checkResult(out)
		r.Verdict, r.Payload = "replace", string(out)
	}
	if err != nil {
		return Result{Verdict: "failed", Err: err}
	}
	h.succeed()
	return r
}

// succeed makes the effects of a call without a client happen, and answers its requests. The emitted events stay those
// of the call.
func (h *Host) succeed() {
	emitted := h.emitted
	h.commit()
	h.settle()
	h.emitted = emitted
}

func (h *Host) checkResult(out []byte) error {
	switch {
	case len(out) > h.limit:
		return fmt.Errorf("the replacement has %d bytes, more than max_result (%d)", len(out), h.limit)
	case !utf8.Valid(out):
		return fmt.Errorf("the replacement is not UTF-8: %q", out)
	case h.JSON && !json.Valid(out):
		return fmt.Errorf("the replacement is not JSON: %s", out)
	}
	return nil
}

// Subscribe asks a hook whether a user, given as a JSON value, may subscribe to a group.
func (h *Host) Subscribe(hook func(*Request) Answer, user, group string) Decision {
	if user == "" {
		user = "null"
	}
	request := append(appendQuoted([]byte(`{"user":`+user+`,"group":`), group), '}')
	var a Answer
	var reason []byte
	err := h.call(hookSubscribe, "", request, func() {
		a = hook(&Request{Document{Payload: append([]byte(nil), request...)}})
		reason = kept
	})
	switch {
	case err != nil:
		return Decision{Err: err}
	case a != AnswerFailed:
		h.succeed()
	}
	switch {
	case a == Allow:
		return Decision{Allow: true}
	case a == Deny:
		return Decision{}
	case a == AnswerFailed:
		return Decision{Err: fmt.Errorf("the plugin reported an error: %s", h.lastLine())}
	case a>>32 != 0:
		return Decision{Reason: strings.ToValidUTF8(string(reason[:min(len(reason), maxReason)]), "\uFFFD")}
	case a >= AllowAs(0) && a <= AllowAs(maxClass):
		return Decision{Allow: true, Class: uint8(a - AllowAs(0))}
	}
	return Decision{Err: fmt.Errorf("unknown answer %#x", uint64(a))}
}

// maxReason is how much of a denial's reason the relay keeps, in bytes.
const maxReason = 512

// lastLine returns the last log line, from which the relay takes the reason of a failure.
func (h *Host) lastLine() string {
	if len(h.Logged) == 0 {
		return "it logged nothing"
	}
	return h.Logged[len(h.Logged)-1].Text
}

func (h *Host) granted(grant string) bool { return h.Grants == nil || slices.Contains(h.Grants, grant) }

func missing(grant string) error {
	return fmt.Errorf("the plugin needs the grant %s; add it to Host.Grants, and to the plugin's block as 'grant %s'",
		grant, grant)
}

// need ends a call without the grant. The relay refuses such a module when it is loaded.
func (h *Host) need(grant string) {
	if !h.granted(grant) {
		panic(missing(grant))
	}
}

func (h *Host) config() []byte {
	if h.Config == "" {
		return []byte("null")
	}
	return []byte(h.Config)
}

func (h *Host) now() time.Time {
	switch {
	case !h.time.IsZero():
		return h.time
	case h.Clock != nil:
		return h.Clock()
	}
	return time.Now()
}

func (h *Host) log(level Level, text string) {
	h.Logged = append(h.Logged, LogLine{level, text[:min(len(text), 4096)]})
}

func (h *Host) restrict(mask uint64) {
	if h.hook == hookEvent {
		h.audience &= mask
	}
}

// source returns how the event reached the node, if the call has an event.
func (h *Host) source() (string, bool) { return h.Source, h.Source != "" && h.hasEvent() }

func (h *Host) sent() int64 {
	if h.Sent.IsZero() || !h.hasEvent() {
		return -1
	}
	return h.Sent.UnixMilli()
}

// position returns the position of the event, if the call has one.
func (h *Host) position() (string, bool) { return h.Position, h.Position != "" && h.hasEvent() }

func (h *Host) hasEvent() bool { return h.hook == hookEvent || h.hook == hookClass }
