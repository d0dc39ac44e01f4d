package uwsgi

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// checkUpstreams returns an error if the directive at the beginning of d has no upstream, or an upstream that cannot be
// uWSGI's socket. reverse_proxy would dial port 80 of an upstream without a port. The position of d stays.
func checkUpstreams(d *caddyfile.Dispenser) error {
	defer d.Reset()
	d.Next()
	found := 0
	check := func(addresses []string) error {
		found += len(addresses)
		for _, address := range addresses {
			if remedy := upstreamRemedy(address); remedy != "" {
				return d.Errf("edgerelay_uwsgi: invalid upstream %q; %s", address, remedy)
			}
		}
		return nil
	}
	if err := check(d.RemainingArgs()); err != nil {
		return err
	}
	for d.NextBlock(0) {
		segment := d.NewFromNextSegment()
		segment.Next()
		switch segment.Val() {
		case "to":
			if err := check(segment.RemainingArgs()); err != nil {
				return err
			}
		case "dynamic":
			found++
		}
	}
	if found == 0 {
		d.Reset()
		d.Next() // the directive's line
		return d.Err("edgerelay_uwsgi: no upstream; add the address of uWSGI's socket, such as 127.0.0.1:8050 or " +
			"unix//run/awx/uwsgi.sock")
	}
	return nil
}

// upstreamRemedy returns the remedy for an address that cannot be uWSGI's socket, and "" for any other.
func upstreamRemedy(address string) string {
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		if scheme == "uwsgi+unix" || scheme == "unix" {
			return "write unix/" + rest
		}
		return "write the address without a scheme: " + strings.TrimSuffix(rest, "/")
	}
	if strings.Contains(address, "{") {
		return "" // known when a request comes
	}
	parsed, err := caddy.ParseNetworkAddress(address)
	switch network := parsed.Network; {
	case strings.HasPrefix(network, "unix") && err == nil:
		if parsed.Host == "" || strings.HasSuffix(parsed.Host, "/") {
			return "write the path of a socket, such as unix//run/awx/uwsgi.sock"
		}
	case err != nil || network != "" && !strings.HasPrefix(network, "tcp") || parsed.StartPort == 0:
		return "write host and port of uWSGI's socket, such as 127.0.0.1:8050, or unix//run/awx/uwsgi.sock"
	}
	return ""
}

// warnOfRelativeSocket logs a warning about a Unix socket with a relative path, such as unix/run/awx.sock. Caddy looks
// for it in its working directory, and the author has probably left out the second slash.
func (t *Transport) warnOfRelativeSocket(address string) {
	address = caddy.NewReplacer().ReplaceKnown(address, "")
	network, path, _ := strings.Cut(address, "/")
	if !caddy.IsUnixNetwork(network) || path == "" || strings.ContainsAny(path[:1], "/@{") {
		return
	}
	t.log.Warn("socket of uwsgi has a relative path", "dial", address, "remedy", "write "+network+"//"+path)
}
