package backplane

import (
	"context"
	"net"
	"net/http"
)

// BePlain makes a backplane that is not started yet behave like a relay without features.
func (b *Backplane) BePlain() { b.features = nil }

// BeUntimed makes a backplane that is not started yet behave like a relay before the feature timed.
func (b *Backplane) BeUntimed() { b.features = []string{featureResume, featureTypes, featureRefetch} }

// Drop counts dropped events as a link does.
func (b *Backplane) Drop(reason string, n int) { b.stats.drop(fault(reason), n) }

// DialWith makes a backplane that is not started yet dial its peers with a function.
func (b *Backplane) DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.client.Store(&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}})
}

// DialLikeKernel is DialWith, where a failure after the connection was made is an answer of the peer.
func (b *Backplane) DialLikeKernel(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			ctx.Value(connectKey{}).(*connecting).done.Store(true)
		}
		return conn, err
	})
}

// DialThrough makes a backplane that is not started yet call a function for each connection that it makes, which calls
// the given one.
func (b *Backplane) DialThrough(through func(func() error) error) {
	dial := b.client.Load().Transport.(*http.Transport).DialContext
	b.DialWith(func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = through(func() (err error) {
			conn, err = dial(ctx, network, address)
			return err
		})
		return conn, err
	})
}

// ResolveWith makes a backplane that is not started yet look hosts up with a resolver.
func (b *Backplane) ResolveWith(r *net.Resolver) { b.resolver = r }
