package plugins

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// Limits of requests.
const (
	maxSharedKey     = 512
	maxSharedValue   = 64 << 10
	maxListLimit     = 1000
	maxAlarmName     = 256
	maxAlarmPayload  = 16 << 10
	maxFetchRequest  = 16 << 10 // bytes of the JSON
	maxFetchBody     = 1 << 20
	maxDepth         = 100               // answers in a row, each of which leads to the next request, without a client
	relativeAlarmMax = 1_000_000_000_000 // milliseconds: below, the time of an alarm is a delay
)

// pending is a request of a hook that has not been answered.
type pending struct {
	Request
	token   int64
	context []byte
}

// origin is the call that has made a request, and that gets the answer.
type origin struct {
	plugin     *plugin
	connection *Connection // nil without a client
	hash       uint64      // selects the instance
	place      string      // without a client: by which a canary divides calls
	hops       int         // as in functionCall
	depth      int         // answers that have led to the request, of an origin without a client
}

// placeOf returns the name by which a canary divides calls.
func (o *origin) placeOf() string {
	if o.connection != nil {
		return o.connection.place
	}
	return o.place
}

// ask keeps a request for the end of the call, and returns the token or an error for the guest.
func (in *instance) ask(stack []uint64, r Request, contextAt int) {
	o := &in.own
	context := in.read(stack[contextAt], stack[contextAt+1])
	size := len(r.Key) + len(r.Value) + len(r.Expected) + len(context)
	in.charge(int64(size) / 4)
	result := int64(0)
	switch {
	case !o.permitted:
		result = effectImpossible
	case len(o.made.requests) >= maxCallRequests, int(in.env.inFlight.Load())+len(o.made.requests) >= maxRequests,
		o.connection != nil && o.connection.answers.inFlight()+len(o.made.requests) >= maxOwnRequests:
		result = effectTooMany
	case o.depth >= maxDepth: // no hook waits for the answer
		result = effectTooMany
	case len(context) > maxContext:
		result = effectTooLarge
	default:
		result = int64(r.fault())
	}
	if result == 0 {
		r.Plugin = in.m.spec.Name
		r.Value, r.Expected = slices.Clone(r.Value), slices.Clone(r.Expected)
		p := &pending{Request: r, token: in.env.newToken(), context: append([]byte{}, context...)}
		o.dirty = true
		o.made.requests = append(o.made.requests, p)
		result = p.token
	}
	stack[0] = uint64(result)
}

// newToken returns a token that no other request of the process has.
func (e *environment) newToken() int64 {
	if e.world == nil {
		return e.trialTokens.Add(1)
	}
	return e.world.tokens.Add(1)
}

// fault returns the error for the guest if the request is too large or malformed.
func (r *Request) fault() int32 {
	limits := map[bool][2]int{true: {maxSharedKey, maxSharedValue}, false: {maxAlarmName, maxAlarmPayload}}[r.Op <= SharedList]
	if r.Op == HTTPFetch {
		limits = [2]int{maxFetchRequest, maxFetchBody}
	}
	switch {
	case len(r.Key) > limits[0], len(r.Value) > limits[1], len(r.Expected) > limits[1]:
		return effectTooLarge
	case len(r.Key) == 0, r.TTL < 0:
		return effectInvalid
	case (r.Op == SharedPush || r.Op == SharedList) && (r.Limit < 1 || r.Limit > maxListLimit):
		return effectInvalid
	case r.Op == HTTPFetch && !isObject([]byte(r.Key)):
		return effectInvalid
	}
	return effectDone
}

// isObject reports whether a text is a JSON object.
func isObject(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && text[0] == '{' && json.Valid(text)
}

func hostSharedGet(in *instance, stack []uint64) {
	in.ask(stack, Request{Op: SharedGet, Key: string(in.read(stack[0], stack[1]))}, 2)
}

func hostSharedSet(in *instance, stack []uint64) {
	in.ask(stack, Request{
		Op: SharedSet, Key: string(in.read(stack[0], stack[1])), Value: in.read(stack[2], stack[3]), TTL: ttl(stack[4]),
	}, 5)
}

func hostSharedSwap(in *instance, stack []uint64) {
	in.ask(stack, Request{
		Op: SharedSwap, Key: string(in.read(stack[0], stack[1])), Expected: in.read(stack[2], stack[3]),
		Value: in.read(stack[4], stack[5]), TTL: ttl(stack[6]),
	}, 7)
}

func hostSharedAdd(in *instance, stack []uint64) {
	in.ask(stack, Request{
		Op: SharedAdd, Key: string(in.read(stack[0], stack[1])), Delta: int64(stack[2]), TTL: ttl(stack[3]),
	}, 4)
}

func hostSharedPush(in *instance, stack []uint64) {
	in.ask(stack, Request{
		Op: SharedPush, Key: string(in.read(stack[0], stack[1])), Value: in.read(stack[2], stack[3]),
		Limit: int(int32(stack[4])), TTL: ttl(stack[5]),
	}, 6)
}

func hostSharedList(in *instance, stack []uint64) {
	in.ask(stack, Request{Op: SharedList, Key: string(in.read(stack[0], stack[1])), Limit: int(int32(stack[2]))}, 3)
}

func hostAlarmSet(in *instance, stack []uint64) {
	at := time.UnixMilli(int64(stack[4]))
	if int64(stack[4]) < relativeAlarmMax {
		at = in.now().Add(ttl(stack[4]))
	}
	in.ask(stack, Request{
		Op: AlarmSet, Key: string(in.read(stack[0], stack[1])), Value: in.read(stack[2], stack[3]), At: at,
	}, 5)
}

func hostAlarmCancel(in *instance, stack []uint64) {
	in.ask(stack, Request{Op: AlarmCancel, Key: string(in.read(stack[0], stack[1]))}, 2)
}

func hostFetch(in *instance, stack []uint64) {
	in.ask(stack, Request{
		Op: HTTPFetch, Key: string(in.read(stack[0], stack[1])), Value: in.read(stack[2], stack[3]),
	}, 4)
}
