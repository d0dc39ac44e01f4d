package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

const (
	peerTimeout = 10 * time.Second
	// warnSkew is a difference between clocks that gets a warning. The response's date is in whole seconds.
	warnSkew = 5 * time.Second
	// maxSkew is the greatest difference that nodes tolerate.
	maxSkew = 300 * time.Second
)

// Peer shakes hands with a node like the backplane, measures the path to it, and disconnects: whether the node is
// reachable, has the same secret, a correct clock and a valid certificate, and how small and large exchanges fare. The
// node takes no link for it. The challenge of relays comes first; a header that could be replayed follows only for
// nodes that an operator has named, which may be Python nodes. Such a node sees a short connection of a relay.
func Peer(ctx context.Context, url string, found bool, secrets backplane.Secrets, config *tls.Config) []Finding {
	const check = "peer"
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	url = strings.TrimSuffix(url, "/")
	var last Finding
	for _, native := range []bool{true, false} {
		if !native && found {
			break
		}
		for _, secret := range secrets {
			for _, endpoint := range []string{"/websocket/broadcast/", "/websocket/relay/"} {
				c, err := dialPeer(ctx, url+endpoint, handshake(secret, native), config)
				if err != nil {
					return []Finding{unreachablePeer(url, err)}
				}
				finding := judge(url, c.resp)
				if code := c.resp.StatusCode; code != http.StatusNotFound && code != http.StatusForbidden {
					defer c.Close()
					return append([]Finding{finding}, examinePath(ctx, url, c)...)
				}
				_ = c.Close()
				// A 403 says more than a 404, which means only that AWX of the other generation runs there.
				if last.Check == "" || c.resp.StatusCode == http.StatusForbidden {
					last = finding
				}
			}
		}
	}
	if last.Check == "" {
		return []Finding{fail(check, "add 'secret {env.BROADCAST_WEBSOCKET_SECRET}'", "no secret is set")}
	}
	return []Finding{last}
}

// handshake returns the header of a WebSocket handshake.
func handshake(secret string, native bool) http.Header {
	header := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"ZWRnZXJlbGF5IGRvY3Rvcg=="},
	}
	if native {
		header.Set("Secret", backplane.NativeHeader(secret, time.Now()))
		header.Set("Sec-Websocket-Protocol", "edgerelay.v1")
	} else {
		header.Set("Secret", backplane.Header(secret, time.Now()))
	}
	return header
}

// unreachablePeer returns the finding for a failed connection.
func unreachablePeer(url string, err error) Finding {
	var secure *tlsError
	switch {
	case errors.As(err, &secure):
		return fail("peer tls", "renew the node's certificate, or set tls_ca or tls_server_name of the backplane",
			"%s: the TLS handshake fails: %v", url, err)
	case strings.Contains(err.Error(), "invalid URL"), strings.Contains(err.Error(), "missing protocol"):
		return fail("peer", "write the peer as a URL, such as http://10.0.0.2", "invalid URL %s: %v", url, err)
	}
	return fail("peer", "start the node, correct its address, or open the firewall for this node",
		"%s cannot be reached: %v", url, err)
}

// examinePath measures the path to a peer over a connection, if the peer has accepted the handshake.
func examinePath(ctx context.Context, url string, c *peerConn) (list []Finding) {
	if c.tls != nil {
		list = append(list, judgeTLS(url, c.tls))
	}
	if c.resp.StatusCode != http.StatusSwitchingProtocols {
		return list
	}
	m := &PathMeasure{Connect: c.connect.Seconds()}
	m.measure(ctx, c.Conn, c.reader)
	return append(list, judgePath(url, m)...)
}

// PeerClock returns the finding for a peer's clock as a running relay has measured it. within bounds the error.
func PeerClock(url string, behind, within time.Duration) Finding {
	const check = "peer clock"
	behind, within = behind.Round(100*time.Microsecond), within.Round(100*time.Microsecond)
	if behind.Abs() > warnSkew {
		return warn(check, "synchronize the clocks (chrony, systemd-timesyncd); nodes reject a difference of 300 s",
			"the clock of %s is %v (within %v) behind this node's", url, behind, within)
	}
	return ok(check, "the clock of %s is %v (within %v) behind this node's", url, behind, within)
}

// judge returns the finding for a peer's response to the handshake.
func judge(url string, resp *http.Response) Finding {
	const check = "peer"
	var behind time.Duration
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err == nil {
		behind = time.Since(theirs).Truncate(time.Second)
	}
	const synchronize = "synchronize the clocks (chrony, systemd-timesyncd); nodes reject a difference of 300 s"
	switch {
	case resp.StatusCode == http.StatusLoopDetected:
		return ok(check, "%s is this node itself", url)
	case behind.Abs() > maxSkew:
		return fail(check, synchronize,
			"the clock of %s is %v behind this node's; response: %s", url, behind, resp.Status)
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusUnauthorized:
		return fail(check, "set the same BROADCAST_WEBSOCKET_SECRET on all nodes",
			"%s has a different secret; response: %s", url, resp.Status)
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return fail(check, "pass /websocket/broadcast/ and /websocket/relay/ on, with the header Upgrade, "+
			"in any proxy in front of the node",
			"%s does not open the nodes' websocket; response: %s", url, resp.Status)
	case behind.Abs() > warnSkew:
		return warn(check, synchronize, "%s accepts this node, but its clock is %v behind this node's", url, behind)
	case err != nil:
		return ok(check, "%s accepts this node", url)
	}
	return ok(check, "%s accepts this node; the clocks differ by less than %v", url, warnSkew)
}
