package telemetry

import (
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// lookupReporter is a [relay.Authorizer] that sends requests to an authority. Without it, the metrics of lookups are
// absent.
type lookupReporter interface {
	// Stats returns the lookups of users and of objects since the authorizer was created.
	Stats() (users, objects awx.LookupStats)
	// Queued returns the number of queued requests by class.
	Queued() map[string]int
}

// collectAuth collects the metrics of an authorizer. They start at zero with each configuration.
func collectAuth(out sink, a relay.Authorizer) {
	reporter, ok := a.(lookupReporter)
	if !ok {
		return
	}
	for class, n := range reporter.Queued() {
		out.gauge(descAuthQueued, float64(n), class)
	}
	users, objects := reporter.Stats()
	for about, lookups := range map[string]awx.LookupStats{"user": users, "object": objects} {
		out.count(descAuthLookups, lookups.Cached, about, "cache")
		out.count(descAuthLookups, lookups.Shared, about, "shared")
		out.count(descAuthLookups, lookups.Requested, about, "request")
		out.count(descAuthResponses, lookups.Yes, about, "yes")
		out.count(descAuthResponses, lookups.No, about, "no")
		out.count(descAuthResponses, lookups.Failed, about, "error")
		out.count(descAuthAborted, lookups.Abandoned, about, "client_gone")
		out.count(descAuthAborted, lookups.Busy, about, "busy")
		out.sum(descAuthTime, lookups.Duration.Seconds(), about)
	}
}
