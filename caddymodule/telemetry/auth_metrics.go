package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// collectAuth shows what an authorizer asked, if it is one that asks. Its figures begin anew with each configuration.
func collectAuth(a relay.Authorizer, gauge func(*prometheus.Desc, float64, ...string), count func(*prometheus.Desc, uint64, ...string), seconds func(*prometheus.Desc, float64, ...string)) {
	asking, ok := a.(interface {
		Stats() (users, objects awx.LookupStats)
		Queued() map[string]int
	})
	if !ok {
		return
	}
	for class, n := range asking.Queued() {
		gauge(descAuthWaiting, float64(n), class)
	}
	users, objects := asking.Stats()
	for about, q := range map[string]awx.LookupStats{"user": users, "object": objects} {
		count(descAuthAsked, q.Cached, about, "cache")
		count(descAuthAsked, q.Shared, about, "shared")
		count(descAuthAsked, q.Requested, about, "request")
		count(descAuthAnswers, q.Yes, about, "yes")
		count(descAuthAnswers, q.No, about, "no")
		count(descAuthAnswers, q.Failed, about, "error")
		count(descAuthUnanswered, q.Abandoned, about, "client_gone")
		count(descAuthUnanswered, q.Busy, about, "busy")
		seconds(descAuthTime, q.Duration.Seconds(), about)
	}
}
