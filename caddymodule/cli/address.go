package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"slices"
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
		return adminAddress{normalize(flag), "from --address"}
	}
	if environment != "" {
		return adminAddress{normalize(environment), "from CADDY_ADMIN; there is no --address"}
	}
	// If this user may not read the directory, the socket is most likely there.
	if _, err := os.Stat(socket); err == nil || errors.Is(err, fs.ErrPermission) {
		return adminAddress{"unix/" + socket, "the default socket; neither --address nor CADDY_ADMIN is set"}
	}
	origin := "Caddy's default; neither --address nor CADDY_ADMIN is set, and there is no socket " + socket
	return adminAddress{defaultAdmin, origin}
}

// normalize returns an address that was copied from a URL as Caddy writes it: without http:// and a last slash, and
// unix//run/x.sock for unix:///run/x.sock.
func normalize(address string) string {
	scheme, rest, found := strings.Cut(address, ":")
	switch {
	case found && strings.EqualFold(scheme, "http") && strings.HasPrefix(rest, "//"):
		return strings.TrimSuffix(rest[len("//"):], "/")
	case found && strings.EqualFold(scheme, "unix") && strings.HasPrefix(rest, "///"):
		return "unix/" + rest[len("//"):]
	case found && strings.EqualFold(scheme, "unix") && strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "//"):
		return "unix/" + rest
	}
	return address
}

// shown returns the address for errors, without a user and a password.
func (p adminAddress) shown() string { return withoutUser(p.address) }

// withoutUser returns an address or a URL of the command line for errors. A user and a password before the host are
// replaced, also where the text as a whole is invalid.
func withoutUser(text string) string {
	if strings.HasPrefix(text, "unix/") {
		return text // @ begins the name of an abstract socket
	}
	if u, err := url.Parse(text); err == nil && u.Host != "" && u.User == nil {
		return text // @ is a part of the path
	}
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	scheme, _, found := strings.Cut(text[:at], "://")
	if !found {
		return redacted + text[at:]
	}
	return scheme + "://" + redacted + text[at:]
}

// adminOff is the value of Caddy's option admin that turns the admin API off.
const adminOff = "off"

// adminNetworks are the networks on which a command reaches the admin API.
var adminNetworks = []string{"tcp", "tcp4", "tcp6", "unix"}

// parse returns the address to dial.
func (p adminAddress) parse() (caddy.NetworkAddress, error) {
	invalid := func(reason string) error {
		return usageErrorf("invalid address %q of the admin API (%s)%s; use a value such as %s or unix/%s",
			p.shown(), p.origin, reason, defaultAdmin, adminSocket)
	}
	at, err := caddy.ParseNetworkAddressWithDefaults(p.address, "tcp", defaultAdminPort)
	local := at.IsUnixNetwork()
	switch {
	case p.address == adminOff:
		return at, usageErrorf("the admin API is off (%s): 'admin off' turns it off, "+
			"and without it there are no commands; set --address if it is on", p.origin)
	case p.shown() != p.address:
		return at, invalid(": the admin API has no users")
	case len(p.address) >= len("https://") && strings.EqualFold(p.address[:len("https://")], "https://"):
		return at, usageErrorf("invalid address %q of the admin API (%s): the commands speak no TLS; "+
			"use the local address, such as %s or unix/%s", p.shown(), p.origin, defaultAdmin, adminSocket)
	case at.IsFdNetwork():
		return at, invalid(": only the server has its file descriptors")
	case err != nil || at.PortRangeSize() > 1 || !slices.Contains(adminNetworks, at.Network) ||
		!local && (at.StartPort == 0 || strings.ContainsAny(at.Host, " \t/?#")) || local && at.Host == "":
		return at, invalid("")
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
	silence := new(silenceError)
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy = "run the command as root or as Caddy's user"
	case errors.As(err, &silence) && silence.changes:
		remedy = "the request may take effect nevertheless: look at the relay's state and its log before you repeat it"
	case errors.As(err, &silence):
		remedy = "look at the relay's log, restart the relay if it hangs, or set --address"
	case errors.Is(err, context.DeadlineExceeded): // of the command's own, such as that of tail --for
		err = errors.New("no response in time")
	case errors.Is(err, context.Canceled):
		err, remedy = errors.New("interrupted before the response"), "repeat the command, or set --address"
	}
	err = fmt.Errorf("calling the admin API at %s (%s): %w; %s", p.shown(), p.origin, err, remedy)
	return &codedError{err, exitUnreachable}
}
