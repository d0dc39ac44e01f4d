package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
)

const (
	// adminSocket is the socket of Caddy's admin API in the systemd unit, the container image and the AWX examples.
	adminSocket = "/run/edgerelay/admin.sock"
	// defaultAdmin is Caddy's own default. caddy.DefaultAdminListen cannot serve here, since it follows CADDY_ADMIN.
	defaultAdmin = "localhost:2019"
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
		return adminAddress{flag, "from --address"}
	}
	if environment != "" {
		return adminAddress{environment, "from CADDY_ADMIN; there is no --address"}
	}
	// If this user may not read the directory, the socket is most likely there.
	if _, err := os.Stat(socket); err == nil || errors.Is(err, fs.ErrPermission) {
		return adminAddress{"unix/" + socket, "the default socket; neither --address nor CADDY_ADMIN is set"}
	}
	origin := "Caddy's default; neither --address nor CADDY_ADMIN is set, and there is no socket " + socket
	return adminAddress{defaultAdmin, origin}
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
