package state

import "time"

// Op is what a [Request] asks for.
type Op uint8

// Operations. Every plugin has keys and alarms of its own.
const (
	Get         Op = iota // the value of Key
	Set                   // set Key to Value for TTL; an empty Value deletes the key
	Swap                  // Set if the value of Key is Expected; an empty Expected means that there is no value
	Add                   // add Delta to the decimal value of Key, 0 if there is none; TTL counts from the first use
	Push                  // append Value to the list Key, of which the last Limit elements stay; TTL counts from here
	List                  // the last Limit elements of the list Key, oldest first, as a JSON array of strings
	AlarmSet              // fire the alarm Key with the payload Value at the time At; replaces an earlier one
	AlarmCancel           // cancel the alarm Key
	// OpCount is the number of operations of plugins.
	OpCount

	// Operations of this package.
	opUsage  // remove the entries of expired keys and report the usage
	opClaim  // claim at most Limit alarms that are due, for Delta milliseconds
	opRenew  // renew the claim Token of an alarm for Delta milliseconds
	opFinish // remove an alarm with the claim Token
	opRetry  // end the claim Token of an alarm, which is due again in Delta milliseconds; Limit attempts do not count
)

var opNames = [...]string{
	"get", "set", "swap", "add", "push", "list", "alarm_set", "alarm_cancel",
	OpCount: "", "usage", "alarm_claim", "alarm_renew", "alarm_finish", "alarm_retry",
}

// String returns the operation's name in metrics.
func (o Op) String() string { return opNames[o] }

// Request is a request of a plugin. The store keeps the byte slices until the response and does not change them.
type Request struct {
	Plugin string
	Op     Op
	// Key and Value are as the operation says, Expected is that of [Swap].
	Key             string
	Value, Expected []byte
	Delta           int64
	Limit           int
	TTL             time.Duration // 0: forever
	At              time.Time

	token string // of a claim
}

// Statuses of responses, as in package plugins.
const (
	OK          int32 = 0
	None        int32 = 1  // there is no such key or alarm
	Conflict    int32 = 2  // of [Swap]: the value is another, which is the response's Body
	Unavailable int32 = -1 // no answer in time; the effect is unknown
	TooLarge    int32 = -2 // the value, the list or the plugin's state is beyond its bound
	Invalid     int32 = -4 // the request, or the value in the store, has the wrong form
	Busy        int32 = -5 // too many requests are waiting
)

// Response answers a request. The caller may keep Body.
type Response struct {
	Status int32
	// Body is the value; of [Add], the sum.
	Body []byte

	wait   time.Duration // of alarm operations: how long the old alarm may still start
	claims []claim       // of opClaim
	next   time.Duration // of opClaim: until the next alarm is due; negative: there is none
	usage  Usage         // of opUsage
}

// Usage is what a plugin's state needs: bytes of keys, values and alarms with their overhead, and the numbers.
type Usage struct{ Bytes, Keys, Alarms int64 }

// claim is an alarm that this node has claimed.
type claim struct {
	name     string
	payload  []byte
	attempts int  // with this one
	moved    bool // from a node that has not finished it within its lease
}
