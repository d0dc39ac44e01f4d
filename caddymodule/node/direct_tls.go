package node

// applyDirectTLS applies the setting direct_tls. A self-test that fails is logged once per process.
func (n *Node) applyDirectTLS(on bool) {
	n.poller.SetDirectTLS(on)
	if !on {
		return
	}
	if err := n.checkTLS(); err != nil && !n.directTLSFailed.Swap(true) {
		n.Log.Warn("direct TLS unavailable; idle connections need more memory",
			"error", err, "remedy", "build with a Go release that this version of edgerelay supports")
	}
}
