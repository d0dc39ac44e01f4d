package doctor

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

const (
	// backendTimeout bounds the answer of a backend to a plain request.
	backendTimeout = 5 * time.Second
	// recentFailure is the time for which a failure of a backend is a finding.
	recentFailure = 10 * time.Minute
)

// Backend reports whether the site that answers the messages of a route answers at all, whether its requests wait, and
// whether one failed of late.
func Backend(ctx context.Context, path string, b *webhttp.Backend) Finding {
	const check = "backend"
	ctx, cancel := context.WithTimeout(ctx, backendTimeout)
	defer cancel()
	began := time.Now()
	status, err := b.Probe(ctx)
	took := time.Since(began).Round(10 * time.Microsecond)
	concurrency, queue := b.Bounds()
	queued := b.Queued()
	switch last := b.LastFailure(); {
	case err != nil:
		return fail(check, "start the site, or correct the address of messages backend", "route %s: %v", path, err)
	case queued > concurrency:
		return warn(check, "give the site more workers and raise concurrency, or make its answers faster",
			"route %s: %d connections wait for a request (concurrency %d, queue %d)", path, queued, concurrency, queue)
	case last != nil && time.Since(last.At) < recentFailure:
		return warn(check, "look into the site's own log at that time",
			"route %s: a request failed %s ago: %v", path, time.Since(last.At).Round(time.Second), last.Err)
	}
	return ok(check, "route %s: the site answers with %d within %v; %d of %d connections in the queue, concurrency %d",
		path, status, took, queued, queue, concurrency)
}
