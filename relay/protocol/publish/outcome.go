package publish

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Outcome is the body of the response to a valid request.
type Outcome struct {
	// Published, Deduplicated and Failed count the results: sent now, sent by an earlier request with the same
	// idempotency key, and failed.
	Published    int `json:"published"`
	Deduplicated int `json:"deduplicated"`
	Failed       int `json:"failed"`
	// Results has a result for each group of each message, in the order of the request.
	Results []Result `json:"results"`
}

// Result is what became of a message in a group.
type Result struct {
	// Message is the index of the message in the request, 0 for a single one.
	Message int    `json:"message"`
	Group   string `json:"group"`
	// Members is the number of members that the message was sent to, and OverCapacity the number of those whose mailbox
	// was full. Clients of this relay count by node.
	Members      int `json:"members"`
	OverCapacity int `json:"over_capacity"`
	// Deduplicated tells that an earlier message with the same idempotency key was sent, and not this one again.
	Deduplicated bool `json:"deduplicated,omitempty"`
	// Unrecorded tells that the message was sent, but its idempotency key could not be stored: a retry sends it again.
	Unrecorded bool `json:"unrecorded,omitempty"`
	// Error is set if the message failed.
	Error *ResultError `json:"error,omitempty"`
}

// ResultError is the reason for which a message failed.
type ResultError struct {
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	// Sent is "no", or "unknown" if the message may have been sent nevertheless.
	Sent string `json:"sent"`
}

// result is a [Result] in the making.
type result struct {
	sent, before, unrecorded bool
	receipt                  relay.Receipt
	failure                  *failure
}

// failure is the reason for which a message failed, see [ResultError].
type failure struct {
	reason  Reason
	detail  string
	unknown bool
}

var (
	failedLayer    = &failure{ReasonLayer, "the channel layer did not confirm the message; retry", true}
	failedClosed   = &failure{ReasonLayer, "the node is stopping; retry", false}
	failedEarlier  = &failure{ReasonLayer, "not sent, because an earlier message of the group failed; retry", false}
	failedTimeout  = &failure{ReasonLayer, "not sent in time; retry", false}
	failedProgress = &failure{
		ReasonInProgress, "another request with the same idempotency key has not ended; retry", false,
	}
)

// results are the results of a message by group.
type results []result

// encode returns the receipts as text, "-" for a group that did not get the message.
func (r results) encode() string {
	parts := make([]string, len(r))
	for i := range r {
		if parts[i] = "-"; r[i].sent {
			parts[i] = strconv.Itoa(r[i].receipt.Members) + "/" + strconv.Itoa(r[i].receipt.OverCapacity)
		}
	}
	return strings.Join(parts, ",")
}

// decode reads the receipts of an earlier request. It reports whether the text fits the number of groups.
func (r results) decode(text string) bool {
	parts := strings.Split(text, ",")
	if len(parts) != len(r) {
		return false
	}
	for i, part := range parts {
		members, over, ok := strings.Cut(part, "/")
		if !ok {
			r[i] = result{}
			continue
		}
		var err1, err2 error
		r[i] = result{sent: true, before: true}
		r[i].receipt.Members, err1 = strconv.Atoi(members)
		r[i].receipt.OverCapacity, err2 = strconv.Atoi(over)
		if err1 != nil || err2 != nil {
			return false
		}
	}
	return true
}

// complete reports whether all groups got the message.
func (r results) complete() bool {
	return !slices.ContainsFunc(r, func(one result) bool { return !one.sent })
}

// fail sets the failure of all groups that did not get the message.
func (r results) fail(f *failure) {
	for i := range r {
		if !r[i].sent {
			r[i].failure = f
		}
	}
}

// outcome collects the results of all items.
func outcome(items []item) *Outcome {
	o := &Outcome{Results: make([]Result, 0, len(items))}
	for i := range items {
		it := &items[i]
		from := it
		if it.alias != nil {
			from = it.alias
		}
		for j, group := range it.groups {
			one := from.results[j]
			r := Result{
				Message: i, Group: group, Members: one.receipt.Members, OverCapacity: one.receipt.OverCapacity,
				Deduplicated: one.sent && (one.before || it.alias != nil), Unrecorded: one.unrecorded,
			}
			switch {
			case !one.sent:
				r.Error = &ResultError{Reason: one.failure.reason.String(), Detail: one.failure.detail, Sent: "no"}
				if one.failure.unknown {
					r.Error.Sent = "unknown"
				}
				o.Failed++
			case r.Deduplicated:
				o.Deduplicated++
			default:
				o.Published++
			}
			o.Results = append(o.Results, r)
		}
	}
	return o
}

// problem returns the problem of a request of which nothing was published, and nil for any other request.
func (o *Outcome) problem() *problem {
	if o.Failed == 0 || o.Failed < len(o.Results) {
		return nil
	}
	first := o.Results[0].Error
	p := &problem{
		Status: http.StatusServiceUnavailable, Reason: ReasonLayer, retryAfter: retryLayer,
		Detail: first.Detail, outcome: o,
	}
	if first.Reason == ReasonInProgress.String() {
		p.Status, p.Reason, p.retryAfter = http.StatusConflict, ReasonInProgress, time.Second
	}
	return p
}
