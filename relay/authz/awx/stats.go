package awx

import "github.com/edgerelay/edgerelay/relay/authz/internal/authority"

// LookupStats counts one kind of lookup since the authorizer was created.
type LookupStats = authority.LookupStats

// Stats returns the counters of user lookups and of object lookups.
func (a *Authorizer) Stats() (users, objects LookupStats) {
	return a.users.Snapshot(), a.objects.Snapshot()
}

// Queued returns the number of queued requests by class. The keys are metric label values.
func (a *Authorizer) Queued() map[string]int { return a.api.queue.Queued() }
