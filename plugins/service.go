package plugins

import "time"

// Op is the operation of a [Request].
type Op uint8

// Operations. The first ones are those of the shared store, in which every plugin has a namespace of its own.
const (
	SharedGet   Op = iota // the value of Key
	SharedSet             // set Key to Value for TTL; an empty Value deletes the key
	SharedSwap            // SharedSet if the value of Key is Expected; an empty Expected means that there is no value
	SharedAdd             // add Delta to the decimal value of Key, 0 if there is none; TTL counts from the first use
	SharedPush            // append Value to the list Key, of which the last Limit elements stay
	SharedList            // the last Limit elements of the list Key, oldest first, as a JSON array of strings
	AlarmSet              // call on_alarm with the name Key and the payload Value at the time At; replaces an earlier one
	AlarmCancel           // cancel the alarm Key
	HTTPFetch             // an HTTP request: Key is JSON with method, url and headers, Value the body
	opCount
)

var opNames = [opCount]string{
	"shared_get", "shared_set", "shared_swap", "shared_add", "shared_push", "shared_list", "alarm_set", "alarm_cancel",
	"fetch",
}

// String returns the name of the host function.
func (o Op) String() string { return opNames[o] }

// Request is a request of a plugin to a service. The service may keep the byte slices, and does not change them.
type Request struct {
	Plugin string
	Op     Op
	// Key and Value are as the operation says, Expected is that of SharedSwap.
	Key             string
	Value, Expected []byte
	Delta           int64
	Limit           int
	TTL             time.Duration // 0: forever
	At              time.Time
}

// Statuses of responses. The statuses of fetch are those of HTTP, from 100 to 599, and those below 0.
const (
	StatusOK          int32 = 0
	StatusNone        int32 = 1  // there is no such key or alarm
	StatusConflict    int32 = 2  // of SharedSwap: the value is another, which is the response's Body
	StatusUnavailable int32 = -1 // the store or the server did not answer, or not in time; the effect is unknown
	StatusTooLarge    int32 = -2 // the value, the store or the response is beyond its bound
	StatusDenied      int32 = -3 // the grant does not allow it
	StatusInvalid     int32 = -4 // the request, or a value in the store, has the wrong form
	StatusBusy        int32 = -5 // too many requests are in flight, or the rate is exceeded
)

// Response answers a request.
type Response struct {
	Status int32
	// Body is the value: of SharedAdd, the sum; of HTTPFetch, the response's body.
	Body []byte
}

// Service carries out requests of plugins. Start must return quickly, and is called concurrently. Requests to the
// shared store that one caller starts take effect in the order of the calls. done is called once, from any goroutine,
// and returns quickly.
type Service interface {
	Start(r *Request, done func(Response))
}

// Services are the services of a [Pipeline]; an operation whose service is nil has the status StatusUnavailable.
type Services struct {
	Shared Service // operations of the shared store
	Alarms Service // AlarmSet and AlarmCancel
	Fetch  Service // HTTPFetch
}

// of returns the service of an operation.
func (s *Services) of(o Op) Service {
	switch {
	case o <= SharedList:
		return s.Shared
	case o <= AlarmCancel:
		return s.Alarms
	}
	return s.Fetch
}
