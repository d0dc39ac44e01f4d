package backplane

import (
	"context"
	"net"
	"net/http"
)

// BePlain makes a backplane that is not started yet behave like a relay without features.
func (b *Backplane) BePlain() { b.features = nil }

// BeUntimed makes a backplane that is not started yet behave like a relay before the feature timed.
func (b *Backplane) BeUntimed() { b.features = []string{featureResume, featureTypes} }

// Drop counts dropped events as a link does.
func (b *Backplane) Drop(reason string, n int) { b.stats.drop(fault(reason), n) }

// DialWith makes a backplane that is not started yet dial its peers with a function.
func (b *Backplane) DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.client.Store(&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}})
}
