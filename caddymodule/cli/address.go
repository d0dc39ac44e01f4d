package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const (
	// adminSocket is where the systemd unit, the container image and the AWX examples put Caddy's admin API.
	adminSocket = "/run/edgerelay/admin.sock"
	// defaultAdmin is where Caddy puts it if nothing is said. caddy.DefaultAdminListen follows CADDY_ADMIN.
	defaultAdmin = "localhost:2019"
)

// adminPlace is where a command looks for the admin API.
type adminPlace struct {
	address string
	// found says how the address was found, for errors.
	found string
}

// lookForAdmin finds the admin API for a value of --address.
func lookForAdmin(flag string) adminPlace {
	return findAdmin(flag, os.Getenv("CADDY_ADMIN"), adminSocket)
}

// findAdmin finds the admin API: where --address says, where CADDY_ADMIN says, which Caddy itself obeys, on the
// socket if there is one, else where Caddy puts it by default. It never tries one after the other: whatever answers
// elsewhere is another Caddy.
// See docs/decisions/operations.md#why-does-the-admin-api-use-a-unix-socket-at-a-fixed-path
func findAdmin(flag, environment, socket string) adminPlace {
	if flag != "" {
		return adminPlace{flag, "from --address"}
	}
	if environment != "" {
		return adminPlace{environment, "from CADDY_ADMIN; there is no --address"}
	}
	// A directory that is closed to this user holds the socket, most likely.
	if _, err := os.Stat(socket); err == nil || errors.Is(err, fs.ErrPermission) {
		return adminPlace{"unix/" + socket, "from the socket's usual place; there is no --address and no CADDY_ADMIN"}
	}
	return adminPlace{defaultAdmin, "Caddy's default; there is no --address, no CADDY_ADMIN and no socket " + socket}
}

// unreachable makes the error for a place where nothing answers.
func (p adminPlace) unreachable(err error) error {
	remedy := "is the relay running? --address names another place"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run the command as root or as Caddy's user"
	}
	return fmt.Errorf("asking the admin API at %s (%s): %w; %s", p.address, p.found, err, remedy)
}
