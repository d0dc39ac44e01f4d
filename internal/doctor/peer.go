package doctor

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

const (
	peerWait = 10 * time.Second
	// skewWorth is a difference between clocks that is worth a word; the answer's date is in whole seconds. skewMost is what nodes tolerate.
	skewWorth = 5 * time.Second
	skewMost  = 300 * time.Second
)

// Peer shakes hands with a node as the backplane does, and hangs up: whether it can be reached, has the same secret, and a clock that goes
// right. One that was only found, and that no operator has named, is asked as a relay.
func Peer(ctx context.Context, url string, found bool, secrets backplane.Secrets, config *tls.Config) Finding {
	const check = "peer"
	ctx, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url = strings.TrimSuffix(url, "/")
	var last Finding
	for _, secret := range secrets {
		for _, endpoint := range []string{"/websocket/broadcast/", "/websocket/relay/"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+endpoint, nil)
			if err != nil {
				return fail(check, "write the peer like http://10.0.0.2", "%s cannot be read: %v", url, err)
			}
			req.Header = http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"ZWRnZXJlbGF5IGRvY3Rvcg=="},
				"Secret": {backplane.Header(secret, time.Now())},
			}
			if found {
				req.Header.Set("Secret", backplane.NativeHeader(secret, time.Now()))
				req.Header.Set("Sec-Websocket-Protocol", "edgerelay.v1")
			}
			resp, err := client.Do(req)
			if err != nil {
				return fail(check, "is the node running, is this its address, and does a firewall let this node through?", "%s cannot be reached: %v", url, err)
			}
			_ = resp.Body.Close()
			answer := received(url, resp)
			if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusForbidden {
				return answer
			}
			if last.Check == "" || resp.StatusCode == http.StatusForbidden { // which tells more than that the other generation's endpoint is not there
				last = answer
			}
		}
	}
	return last
}

// received says what a peer's answer to the handshake means.
func received(url string, resp *http.Response) Finding {
	const check = "peer"
	var behind time.Duration
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err == nil {
		behind = time.Since(theirs).Truncate(time.Second)
	}
	const synchronize = "synchronize the clocks (chrony, systemd-timesyncd); nodes refuse each other from 300 s on"
	switch {
	case resp.StatusCode == http.StatusLoopDetected:
		return ok(check, "%s is this node itself", url)
	case behind.Abs() > skewMost:
		return fail(check, synchronize, "%s has a clock that is %v behind this one, and answers %s", url, behind, resp.Status)
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusUnauthorized:
		return fail(check, "set the same BROADCAST_WEBSOCKET_SECRET on all nodes", "%s answers %s: it has another secret", url, resp.Status)
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return fail(check, "does a proxy in front of the node pass /websocket/broadcast/ and /websocket/relay/ on, with Upgrade?", "%s answers %s where the nodes' websocket should be", url, resp.Status)
	case behind.Abs() > skewWorth:
		return warn(check, synchronize, "%s lets this node in, and has a clock that is %v behind this one", url, behind)
	case err != nil:
		return ok(check, "%s lets this node in", url)
	}
	return ok(check, "%s lets this node in; its clock is right within %v", url, skewWorth)
}
