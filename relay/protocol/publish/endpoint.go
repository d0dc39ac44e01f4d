package publish

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// Defaults and limits of an [Endpoint].
const (
	DefaultMaxBody     = 1 << 20
	DefaultMaxMessages = 1000
	DefaultIdempotency = 5 * time.Minute
	// DefaultBodyTimeout bounds the time in which a body arrives.
	DefaultBodyTimeout = 10 * time.Second
	// MaxRequests is the number of requests that an endpoint reads or publishes at the same time.
	MaxRequests = 256
)

// Publisher is the hub.
type Publisher interface {
	// PublishMessage sends a message to its group.
	PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error)
	// Broker returns the channel layer; nil if there is none.
	Broker() relay.Broker
}

// Endpoint publishes the messages of HTTP requests. Its fields must not change once it serves requests. All requests to
// it are meant for it; the caller selects the path.
type Endpoint struct {
	// Keys may publish. Required.
	Keys *Keys
	// Publisher takes the messages. Required.
	Publisher Publisher
	// Claims keeps idempotency keys if the channel layer is no [relay.ClaimKeeper]. Required.
	Claims *LocalClaims
	// MaxBody is the greatest length of a body in bytes, MaxMessages the greatest number of publications of a request, by
	// message and group.
	MaxBody     int64
	MaxMessages int
	// Idempotency is the time for which results are kept under an idempotency key; 0 rejects idempotency keys.
	Idempotency time.Duration
	// BodyTimeout bounds the time in which a body arrives; 0 is [DefaultBodyTimeout].
	BodyTimeout time.Duration
	// WaitTimeout bounds the time for which a request waits for another one with the same idempotency key; 0 is 5 s.
	WaitTimeout time.Duration
	// Cleartext reports whether the credentials of a request came over a network without encryption; nil does not look.
	Cleartext func(r *http.Request) bool
	// Unauthorized counts requests without a valid key. Required.
	Unauthorized *Counters
	// Log gets a line for each rejected request, with the client's Address.
	Log     *slog.Logger
	Address func(r *http.Request) string

	slots, abandoning chan struct{}
}

// Init completes an Endpoint before its first request.
func (e *Endpoint) Init() {
	e.slots, e.abandoning = make(chan struct{}, MaxRequests), make(chan struct{}, maxAbandoned)
}

func (e *Endpoint) bodyTimeout() time.Duration {
	if e.BodyTimeout > 0 {
		return e.BodyTimeout
	}
	return DefaultBodyTimeout
}

func (e *Endpoint) waitTimeout() time.Duration {
	if e.WaitTimeout > 0 {
		return e.WaitTimeout
	}
	return waitTimeout
}

// claimKeeper returns the store of idempotency keys.
func (e *Endpoint) claimKeeper() relay.ClaimKeeper {
	if k, ok := e.Publisher.Broker().(relay.ClaimKeeper); ok {
		return k
	}
	return e.Claims
}

// ServeHTTP implements [http.Handler].
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		e.reject(w, r, nil, &problem{
			Status: http.StatusMethodNotAllowed, Reason: ReasonMethod, Detail: "use POST",
		})
		return
	}
	k := e.Authenticate(w, r)
	if k == nil {
		return
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		e.reject(w, r, k, &problem{
			Status: http.StatusServiceUnavailable, Reason: ReasonBusy, retryAfter: time.Second,
			Detail: "too many requests at the same time; send batches, or retry",
		})
		return
	}
	o, wrong := e.serve(w, r, k)
	switch {
	case wrong != nil:
		e.reject(w, r, k, wrong)
	case o != nil:
		e.respond(w, k, o)
	}
}

// setHeaders sets the headers of all responses. There are none of CORS, so that no page of another site can publish.
func setHeaders(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

// Authenticate returns the key of a request. If it has none, Authenticate answers the request and returns nil.
func (e *Endpoint) Authenticate(w http.ResponseWriter, r *http.Request) *Key {
	setHeaders(w)
	k, err := e.Keys.authenticate(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="publish"`)
		e.reject(w, r, nil, &problem{
			Status: http.StatusUnauthorized, Reason: ReasonUnauthorized, Detail: err.Error(),
		})
		return nil
	}
	k.counters.used.Store(time.Now().Unix())
	if e.Cleartext != nil && e.Cleartext(r) {
		k.counters.Cleartext.Add(1)
		e.Log.Warn("publishing key sent without encryption", "key", k.Name(), "address", e.address(r),
			"remedy", "use https, or replace the key's secret")
	}
	return k
}

// serve reads, checks and publishes a request. Two nil results mean that the client has gone.
func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request, k *Key) (*Outcome, *problem) {
	headerID, wrong := e.headerID(r)
	if wrong != nil {
		return nil, wrong
	}
	body, wrong := e.readBody(w, r)
	if body == nil {
		return nil, wrong
	}
	list, kind, err := parse(body, e.MaxMessages)
	if err == nil && kind == formGRIP {
		list, err = e.parseGRIP(body)
	}
	if err != nil {
		return nil, invalid(err)
	}
	if wrong := e.supports(list); wrong != nil {
		return nil, wrong
	}
	if wrong := check(k, list); wrong != nil {
		return nil, wrong
	}
	o, wrong := e.publish(r.Context(), k, list, headerID, body)
	if wrong != nil {
		count := 0
		for i := range list {
			count += len(list[i].groups)
		}
		k.limit.refund(count)
		return nil, wrong
	}
	k.limit.refund(o.Failed)
	k.counters.Sent.Add(uint64(o.Published))
	k.counters.Deduplicated.Add(uint64(o.Deduplicated))
	k.counters.Failed.Add(uint64(o.Failed))
	if kind == formGRIP && o.Failed > 0 && o.problem() == nil { // its clients look at the status alone
		return nil, &problem{
			Status: http.StatusServiceUnavailable, Reason: ReasonLayer, retryAfter: retryLayer, outcome: o,
			Detail: "some items were not published; see results",
		}
	}
	return o, o.problem()
}

// headerID returns the header Idempotency-Key, which may stand in quotes (draft-ietf-httpapi-idempotency-key-header).
func (e *Endpoint) headerID(r *http.Request) (string, *problem) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	id := values[0]
	if len(id) >= 2 && strings.HasPrefix(id, `"`) && strings.HasSuffix(id, `"`) {
		id = id[1 : len(id)-1]
	}
	err := checkID(id)
	switch {
	case len(values) > 1:
		err = faultf("the header Idempotency-Key is given twice")
	case err == nil && e.Idempotency == 0:
		err = errNoIdempotency
	}
	if err != nil {
		return "", invalid(err)
	}
	return id, nil
}

var errNoIdempotency = faultf("idempotency keys are switched off here; remove the key, or configure idempotency")

// supports returns a problem if the channel layer, or the configuration, cannot carry out the request.
func (e *Endpoint) supports(list []publication) *problem {
	_, typed := e.Publisher.Broker().(relay.MessagePublisher)
	for i := range list {
		p := &list[i]
		switch {
		case p.id != "" && e.Idempotency == 0:
			wrong := invalid(errNoIdempotency)
			wrong.Pointer = p.pointer + "/id"
			return wrong
		case p.message.Type != "" && !typed && e.Publisher.Broker() != nil:
			return &problem{
				Status: http.StatusNotImplemented, Reason: ReasonUnsupported,
				Detail: `this channel layer publishes no messages with a type; use "text"`,
			}
		}
	}
	return nil
}

// parseGRIP converts the body of a GRIP publication.
func (e *Endpoint) parseGRIP(body []byte) (list []publication, err error) {
	items, err := webhttp.ParsePublish(body)
	if err != nil {
		return nil, within("items", faultf("%v", err))
	}
	if len(items) > e.MaxMessages {
		return nil, tooManyError{e.MaxMessages}
	}
	for i := range items {
		m, err := items[i].Message()
		if err != nil {
			return nil, within("items", faultf("%v", err))
		}
		p := publication{
			message: m, groups: []string{m.Group}, pointer: "/items/" + strconv.Itoa(i), grip: true, channel: items[i].Channel,
		}
		if e.Idempotency > 0 {
			p.id = items[i].ID
		}
		list = append(list, p)
	}
	return list, nil
}

// respond sends the outcome of a request of which at least a part was published.
func (e *Endpoint) respond(w http.ResponseWriter, k *Key, o *Outcome) {
	status := http.StatusOK
	if o.Failed > 0 {
		status = http.StatusMultiStatus
		w.Header().Set("Retry-After", seconds(retryLayer))
	}
	if o.Deduplicated == len(o.Results) {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	e.Log.Debug("messages published", "key", k.Name(), "count", o.Published, "deduplicated", o.Deduplicated,
		"failed", o.Failed)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(o)
}

// reject counts and logs a problem, and sends it.
func (e *Endpoint) reject(w http.ResponseWriter, r *http.Request, k *Key, p *problem) {
	name, counters := "", e.Unauthorized
	if k != nil {
		name, counters = k.Name(), k.counters
	}
	counters.Rejected[p.Reason].Add(1)
	attributes := []any{"key", name, "address", e.address(r), "reason", p.Reason.String(), "detail", p.Detail}
	if p.cause != nil {
		attributes = append(attributes, "error", p.cause)
	}
	e.Log.Warn("publication rejected", attributes...)
	p.write(w)
}

func (e *Endpoint) address(r *http.Request) string {
	if e.Address != nil {
		return e.Address(r)
	}
	return r.RemoteAddr
}
