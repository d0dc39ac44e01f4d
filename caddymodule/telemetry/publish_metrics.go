package telemetry

import (
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
	"github.com/edgerelay/edgerelay/relay/protocol/publish"
)

var (
	descPublications = desc("publications_total",
		"Publications by edgerelay_publish, counted by message and group, by key and result: sent, deduplicated, "+
			"or failed.", "key", "result")
	descPublishRejected = desc("publish_rejected_total",
		"Requests to edgerelay_publish that published nothing, by key and reason; the key is empty if there was "+
			"no valid one.", "key", "reason")
	descPublishCleartext = desc("publish_cleartext_total",
		"Requests to edgerelay_publish from outside without TLS, by key.", "key")
)

// collectPublishing collects the metrics of the keys that the node has had.
func collectPublishing(out sink, s *publishing.State) {
	rejected := func(key string, c *publish.Counters) {
		for reason := range publish.ReasonCount {
			if n := c.Rejected[reason].Load(); n > 0 {
				out.count(descPublishRejected, n, key, reason.String())
			}
		}
	}
	out.count(descPublishRejected, s.Unauthorized().Rejected[publish.ReasonUnauthorized].Load(), "", "unauthorized")
	out.count(descPublishRejected, s.Unauthorized().Rejected[publish.ReasonMethod].Load(), "", "method")
	s.Each(func(name string, c *publish.Counters) {
		out.count(descPublications, c.Sent.Load(), name, "sent")
		out.count(descPublications, c.Deduplicated.Load(), name, "deduplicated")
		out.count(descPublications, c.Failed.Load(), name, "failed")
		out.count(descPublishCleartext, c.Cleartext.Load(), name)
		rejected(name, c)
	})
}
