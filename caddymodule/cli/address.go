package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

const (
	// adminSocket is the socket of Caddy's admin API in the systemd unit, the container image and the AWX examples.
	adminSocket = "/run/edgerelay/admin.sock"
	// defaultAdmin is Caddy's own default. caddy.DefaultAdminListen cannot serve here, since it follows CADDY_ADMIN.
	defaultAdmin = "localhost:2019"
	// defaultAdminPort is the port of an address without one.
	defaultAdminPort = 2019
)

// adminAddress is an address of the admin API.
type adminAddress struct {
	address string
	// origin describes the source of the address, for errors.
	origin string
}

// resolveAdmin returns the address of the admin API for a value of --address.
func resolveAdmin(flag string) adminAddress {
	return findAdmin(flag, os.Getenv("CADDY_ADMIN"), adminSocket)
}

// findAdmin chooses the address of the admin API: --address, else CADDY_ADMIN, which Caddy itself obeys, else the
// socket if the socket exists, else Caddy's default. The first address is final: another address would reach another
// Caddy.
// See docs/decisions/operations.md#why-does-the-admin-api-use-a-unix-socket-at-a-fixed-path
func findAdmin(flag, environment, socket string) adminAddress {
	if flag != "" {
		return adminAddress{withoutScheme(flag), "from --address"}
	}
	if environment != "" {
		return adminAddress{withoutScheme(environment), "from CADDY_ADMIN; there is no --address"}
	}
	// If this user may not read the directory, the socket is most likely there.
	if _, err := os.Stat(socket); err == nil || errors.Is(err, fs.ErrPermission) {
		return adminAddress{"unix/" + socket, "the default socket; neither --address nor CADDY_ADMIN is set"}
	}
	origin := "Caddy's default; neither --address nor CADDY_ADMIN is set, and there is no socket " + socket
	return adminAddress{defaultAdmin, origin}
}

// withoutScheme removes http:// and a last slash, for an address that was copied from a URL.
func withoutScheme(address string) string {
	if rest, ok := strings.CutPrefix(address, "http://"); ok {
		return strings.TrimSuffix(rest, "/")
	}
	return address
}

// adminOff is the value of Caddy's option admin that turns the admin API off.
const adminOff = "off"

// parse returns the address to dial.
func (p adminAddress) parse() (caddy.NetworkAddress, error) {
	if p.address == adminOff {
		return caddy.NetworkAddress{}, usageErrorf("the admin API is off (%s): 'admin off' turns it off, "+
			"and without it there are no commands; set --address if it is on", p.origin)
	}
	if strings.HasPrefix(p.address, "https://") {
		return caddy.NetworkAddress{}, usageErrorf("invalid address %q of the admin API (%s): the commands speak no TLS; "+
			"use the local address, such as %s or unix/%s", p.address, p.origin, defaultAdmin, adminSocket)
	}
	at, err := caddy.ParseNetworkAddressWithDefaults(p.address, "tcp", defaultAdminPort)
	local := at.IsUnixNetwork() || at.IsFdNetwork()
	if err != nil || at.PortRangeSize() > 1 || !local && (at.StartPort == 0 || !strings.HasPrefix(at.Network, "tcp")) {
		return at, usageErrorf("invalid address %q of the admin API (%s); use a value such as %s or unix/%s",
			p.address, p.origin, defaultAdmin, adminSocket)
	}
	// Caddy listens at such an address, but a client has to name a host.
	if ip, err := netip.ParseAddr(at.Host); !local && (at.Host == "" || err == nil && ip.IsUnspecified()) {
		at.Host = "localhost"
	}
	return at, nil
}

// unreachable returns the error for an address without a response, with a remedy.
func (p adminAddress) unreachable(err error) error {
	// The method and the URL of the request say nothing to a user of the command line.
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	remedy := "start the relay, or set --address"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run the command as root or as Caddy's user"
	}
	err = fmt.Errorf("calling the admin API at %s (%s): %w; %s", p.address, p.origin, err, remedy)
	return &codedError{err, exitUnreachable}
}
