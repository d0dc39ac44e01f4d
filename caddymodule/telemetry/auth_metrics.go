package telemetry

import (
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

// lookupReporter is a [relay.Authorizer] that sends requests to an authority. Without it, the metrics of lookups are
// absent.
type lookupReporter interface {
	// Stats returns the lookups of users and of objects since the authorizer was created.
	Stats() (users, objects awx.LookupStats)
	// Queued returns the number of queued requests by class.
	Queued() map[string]int
}

// members is a [relay.Authorizer] that consists of several.
type members interface {
	Each(f func(name string, member relay.Authorizer))
}

// collectAuth collects the metrics of an authorizer, as sums of all authorizers of a configuration. They start at zero
// with each configuration.
func collectAuth(out sink, a relay.Authorizer) {
	var sums authSums
	if m, ok := a.(members); ok {
		m.Each(func(_ string, member relay.Authorizer) { sums.add(member) })
	} else {
		sums.add(a)
	}
	for class, n := range sums.queued {
		out.gauge(descAuthQueued, float64(n), class)
	}
	for about, lookups := range sums.lookups {
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
	if sums.hasTokens {
		out.count(descAuthTokens, sums.tokens.Accepted, "accepted")
		out.count(descAuthTokens, sums.tokens.Rejected, "rejected")
		out.count(descAuthTokens, sums.tokens.Failed, "error")
		out.count(descAuthKeyFetches, sums.tokens.Fetches-sums.tokens.FailedFetches, "ok")
		out.count(descAuthKeyFetches, sums.tokens.FailedFetches, "error")
		out.gauge(descAuthKeyAge, sums.tokens.Age.Seconds())
	}
}

// authSums are the statistics of several authorizers together.
type authSums struct {
	queued    map[string]int
	lookups   map[string]awx.LookupStats
	tokens    jwt.Stats // Age is the greatest
	hasTokens bool
}

// add adds an authorizer's statistics.
func (s *authSums) add(a relay.Authorizer) {
	switch r := a.(type) {
	case lookupReporter:
		if s.lookups == nil {
			s.lookups, s.queued = map[string]awx.LookupStats{}, map[string]int{}
		}
		for class, n := range r.Queued() {
			s.queued[class] += n
		}
		users, objects := r.Stats()
		s.lookups["user"] = s.lookups["user"].Plus(users)
		s.lookups["object"] = s.lookups["object"].Plus(objects)
	case *jwt.Authorizer:
		one := r.Stats()
		s.hasTokens = true
		s.tokens.Accepted += one.Accepted
		s.tokens.Rejected += one.Rejected
		s.tokens.Failed += one.Failed
		s.tokens.Fetches += one.Fetches
		s.tokens.FailedFetches += one.FailedFetches
		s.tokens.Age = max(s.tokens.Age, one.Age)
	}
}
