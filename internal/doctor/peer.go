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
	peerTimeout = 10 * time.Second
	// warnSkew is a difference between clocks that gets a warning. The response's date is in whole seconds.
	warnSkew = 5 * time.Second
	// maxSkew is the greatest difference that nodes tolerate.
	maxSkew = 300 * time.Second
)

// Peer shakes hands with a node like the backplane, and disconnects. The handshake shows whether the node is reachable,
// has the same secret and a correct clock. A peer that a discovery has found gets the handshake of a relay only.
func Peer(ctx context.Context, url string, found bool, secrets backplane.Secrets, config *tls.Config) Finding {
	const check = "peer"
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
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
				return fail(check, "write the peer as a URL, such as http://10.0.0.2", "invalid URL %s: %v", url, err)
			}
			req.Header = http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Key": {"ZWRnZXJlbGF5IGRvY3Rvcg=="},
				"Secret":            {backplane.Header(secret, time.Now())},
			}
			if found {
				req.Header.Set("Secret", backplane.NativeHeader(secret, time.Now()))
				req.Header.Set("Sec-Websocket-Protocol", "edgerelay.v1")
			}
			resp, err := client.Do(req)
			if err != nil {
				return fail(check, "start the node, correct its address, or open the firewall for this node",
					"%s cannot be reached: %v", url, err)
			}
			_ = resp.Body.Close()
			finding := judge(url, resp)
			if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusForbidden {
				return finding
			}
			// A 403 says more than a 404, which means only that AWX of the other generation runs there.
			if last.Check == "" || resp.StatusCode == http.StatusForbidden {
				last = finding
			}
		}
	}
	return last
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
