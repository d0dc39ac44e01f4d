package edgerelay

import "strconv"

// Continuation names the function that gets the response to a request. Functions have no closures over a request,
// because another instance of the plugin may get the response, even one of a newer version.
type Continuation struct{ name, context string }

// Then returns a continuation: name is that of a handler, see [Results], and context is a text that the handler gets
// back as [Response.Context], such as one of [Object]. Both together have at most 1,023 bytes.
func Then(name, context string) Continuation { return Continuation{name, context} }

// wire returns the context of a request as it travels: the name, a zero byte, and the context.
func wire(then []Continuation) string {
	if len(then) == 0 {
		return ""
	}
	return then[0].name + "\x00" + then[0].context
}

// Shared is the plugin's store that all nodes share. Requests begin after the hook has succeeded. Those of one client,
// and those for events of one group, take effect in order. A request without [Then] needs no answer. Times to live are
// in milliseconds; 0 means forever. Grant: shared.
var Shared shared

type shared struct{}

// Get reads a value. [Response.Missing] reports that there is none.
func (shared) Get(key string, then ...Continuation) error {
	return requested("shared get", hostSharedGet(key, wire(then)))
}

// Set stores a value. An empty value deletes the key.
func (shared) Set(key, value string, ttl int64, then ...Continuation) error {
	return requested("shared set", hostSharedSet(key, value, ttl, wire(then)))
}

// Delete deletes a key.
func (shared) Delete(key string, then ...Continuation) error {
	return requested("shared delete", hostSharedSet(key, "", 0, wire(then)))
}

// Swap stores a value if the present one is expected; an empty expected means that there is none. Otherwise the
// response is a [Response.Conflict] and holds the present value.
func (shared) Swap(key, expected, value string, ttl int64, then ...Continuation) error {
	return requested("shared swap", hostSharedSwap(key, expected, value, ttl, wire(then)))
}

// Add adds to a decimal number, 0 if the key is missing. The response is the sum, see [Response.Number]. ttl counts
// from the key's first use.
func (shared) Add(key string, delta, ttl int64, then ...Continuation) error {
	return requested("shared add", hostSharedAdd(key, delta, ttl, wire(then)))
}

// Push appends a value to a list, of which the last limit elements stay.
func (shared) Push(key, value string, limit int, ttl int64, then ...Continuation) error {
	return requested("shared push", hostSharedPush(key, value, int32(limit), ttl, wire(then)))
}

// List reads the last limit elements of a list, oldest first, see [Response.List].
func (shared) List(key string, limit int, then ...Continuation) error {
	return requested("shared list", hostSharedList(key, int32(limit), wire(then)))
}

// Alarms call the plugin at a time, on one of the nodes, also after the client has left or a node has failed. An alarm
// replaces an earlier one of the same name. Grant: alarms.
var Alarms alarms

type alarms struct{}

// After sets an alarm that is due in some milliseconds.
func (alarms) After(name, payload string, ms int64, then ...Continuation) error {
	return requested("alarm", hostAlarmSet(name, payload, ms, wire(then)))
}

// At sets an alarm for a Unix time in milliseconds.
func (alarms) At(name, payload string, unixMS int64, then ...Continuation) error {
	return requested("alarm", hostAlarmSet(name, payload, unixMS, wire(then)))
}

// Cancel cancels an alarm.
func (alarms) Cancel(name string, then ...Continuation) error {
	return requested("alarm cancel", hostAlarmCancel(name, wire(then)))
}

// HTTPRequest is a request to a server.
type HTTPRequest struct {
	Method string // empty: GET, or POST with a body
	URL    string
	Header []string // names and values in turn
	Body   string
	// Once tells what the request is about, such as "job 7 failed": of all nodes on which the plugin makes equal requests,
	// one makes it. For the others, the status is [StatusConflict].
	Once string
}

// Fetch makes an HTTP request. The response's status is that of HTTP, or below 0. Grant: fetch.
func Fetch(r HTTPRequest, then ...Continuation) error {
	return requested("fetch "+r.URL, hostFetch(r.json(), r.Body, wire(then)))
}

// PostJSON posts a JSON text. Grant: fetch.
func PostJSON(url, body string, then ...Continuation) error {
	return Fetch(HTTPRequest{Method: "POST", URL: url, Header: []string{"Content-Type", "application/json"}, Body: body}, then...)
}

// json returns the request without the body, as the host expects it.
func (r *HTTPRequest) json() string {
	method := r.Method
	switch {
	case method != "":
	case r.Body == "":
		method = "GET"
	default:
		method = "POST"
	}
	return `{"method":` + Quote(method) + `,"url":` + Quote(r.URL) + `,"headers":` + Object(r.Header...) + r.once() + "}"
}

func (r *HTTPRequest) once() string {
	if r.Once == "" {
		return ""
	}
	return `,"once":` + Quote(r.Once)
}

func requested(what string, token int64) error {
	return effect(what, int32(min(token, 0)), ErrMalformed)
}

// Response is the response to a request. The methods of [Document] read a body that is JSON.
type Response struct {
	// Status is 0, one of the statuses below, or that of HTTP.
	Status int32
	// Context is the context of [Then].
	Context string
	Document
}

// Statuses of responses.
const (
	StatusOK          int32 = 0
	StatusNone        int32 = 1  // there is no such key or alarm
	StatusConflict    int32 = 2  // of Swap: the value is another one, which is the body
	StatusUnavailable int32 = -1 // the store or the server did not answer in time; the effect is unknown
	StatusTooLarge    int32 = -2 // the value, the store or the response is beyond its bound
	StatusDenied      int32 = -3 // the grant does not allow it
	StatusInvalid     int32 = -4 // the request, or a value in the store, has the wrong form
	StatusBusy        int32 = -5 // too many requests are in flight, or the rate is exceeded
)

// OK reports success: the status 0, or 200 to 299 of HTTP.
func (r *Response) OK() bool { return r.Status == StatusOK || r.Status >= 200 && r.Status < 300 }

// Missing reports that there is no such key or alarm.
func (r *Response) Missing() bool { return r.Status == StatusNone }

// Conflict reports that [Shared] holds another value than the expected one, see Swap.
func (r *Response) Conflict() bool { return r.Status == StatusConflict }

// String returns the body.
func (r *Response) String() string { return string(r.Payload) }

// Number returns the body as an integer, and 0 if it is none.
func (r *Response) Number() int64 {
	n, err := strconv.ParseInt(string(r.Payload), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// List returns the elements of a body that is a JSON array, strings decoded.
func (r *Response) List() (list []string) {
	for i := 0; ; i++ {
		s, ok := r.Text(strconv.Itoa(i))
		if !ok {
			return list
		}
		list = append(list, s)
	}
}

// Err returns a [ResponseError] if the status is below 0, or an error of HTTP, and nil otherwise.
func (r *Response) Err() error {
	if r.Status < 0 || r.Status >= 400 {
		return ResponseError(r.Status)
	}
	return nil
}

// ResponseError is the status of a request that failed.
type ResponseError int32

// Error returns the status as text.
func (e ResponseError) Error() string {
	switch int32(e) {
	case StatusUnavailable:
		return "unavailable"
	case StatusTooLarge:
		return "too large"
	case StatusDenied:
		return "not granted"
	case StatusInvalid:
		return "invalid"
	case StatusBusy:
		return "too many requests"
	}
	return "HTTP status " + strconv.Itoa(int(e))
}

// Quote returns a text as a JSON string.
func Quote(text string) string { return string(appendQuoted(nil, text)) }

// Object returns a JSON object of strings: Object("from", name, "text", text).
func Object(namesAndValues ...string) string {
	b := []byte{'{'}
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, namesAndValues[i]), ':')
		b = appendQuoted(b, namesAndValues[i+1])
	}
	return string(append(b, '}'))
}

// TextAt returns the value at path in any JSON text, such as an attachment or a context: a string decoded, any other
// value as JSON text. It reports whether the value exists.
func TextAt(json, path string) (string, bool) {
	doc := []byte(json)
	from, to, ok := find(doc, path)
	if !ok {
		return "", false
	}
	return string(decoded(doc[from:to])), true
}
