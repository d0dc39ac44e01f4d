package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/examples/demo"
)

// demoSettings are the flags of the command demo.
type demoSettings struct {
	port  int
	admin string
}

func demoCommand() *cobra.Command {
	var s demoSettings
	cmd := &cobra.Command{
		Use:   "demo [--port <port>]",
		Short: "Run a relay with a demo page, without a configuration",
		Long: "Runs a relay with the demo page and the console until Ctrl-C, without Redis and without a login.\n" +
			"Every client may publish: for development only. The command prints the address of the page and a\n" +
			"command that publishes an event.",
		Example: "  caddy edgerelay demo\n  caddy edgerelay demo --port 9000 --admin localhost:9001",
		Args:    cobra.NoArgs,
		RunE:    runE(func(context.Context, []string) error { return s.run() }),
	}
	cmd.Flags().IntVar(&s.port, "port", 8013, "port of the page")
	cmd.Flags().StringVar(&s.admin, "admin", "", "address of Caddy's admin API, or off for none; default: CADDY_ADMIN, or localhost:2019")
	return cmd
}

// run starts the relay. It returns only with an error: Caddy ends the process at a signal.
func (s *demoSettings) run() error {
	if s.port < 1 || s.port > 65535 {
		return usageErrorf("--port: invalid port %d; use a number from 1 to 65535", s.port)
	}
	if err := checkFree(fmt.Sprintf(":%d", s.port), "--port"); err != nil {
		return err
	}
	if s.admin == "" && caddy.DefaultAdminListen == adminOff {
		s.admin = adminOff // Caddy itself takes this value of CADDY_ADMIN for a host
	}
	if err := checkAdminFree(cmp.Or(s.admin, caddy.DefaultAdminListen)); err != nil {
		return err
	}
	caddy.TrapSignals()
	dir, err := os.MkdirTemp("", "edgerelay-demo-")
	if err != nil {
		return fmt.Errorf("creating a folder for the plugin: %w; set TMPDIR to a writable folder", err)
	}
	caddy.OnExit(func(context.Context) { _ = os.RemoveAll(dir) }) // at a signal
	defer func() { _ = os.RemoveAll(dir) }()
	plugin := filepath.Join(dir, "redact.wasm")
	if err := os.WriteFile(plugin, demo.Redact, 0o600); err != nil {
		return fmt.Errorf("writing the plugin: %w; set TMPDIR to a writable folder", err)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(s.caddyfile(plugin)),
		map[string]any{"filename": "Caddyfile of the demo"})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting the demo: %w; if a port is in use, set --port and --admin", err)
	}
	select {}
}

// checkAdminFree returns an error if a program listens on the address of the admin API.
func checkAdminFree(address string) error {
	if address == adminOff {
		return nil
	}
	a, err := caddy.ParseNetworkAddressWithDefaults(address, "tcp", 2019)
	if err != nil || a.PortRangeSize() > 1 || withoutUser(address) != address {
		return usageErrorf("--admin: invalid address %q; use one such as localhost:2019, or off", withoutUser(address))
	}
	if a.IsUnixNetwork() || a.IsFdNetwork() || a.StartPort == 0 {
		return nil // Caddy reports it
	}
	err = checkFree(a.JoinHostPort(0), "--admin")
	if errors.As(err, new(*net.DNSError)) {
		return usageErrorf("%w", err)
	}
	return err
}

// checkFree returns an error if a program listens on an address. Caddy itself shares the port of another Caddy, and
// each would get some of the requests.
func checkFree(address, flag string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("starting the demo: %w; %s", err, listenRemedy(err, flag))
	}
	return l.Close()
}

// caddyfile is the Caddyfile of the repository's root, with the flags.
func (s *demoSettings) caddyfile(plugin string) string {
	admin := ""
	if s.admin != "" {
		admin = "admin " + strconv.Quote(s.admin)
	}
	return fmt.Sprintf(`{
	%s
	persist_config off
	grace_period 1s
	log {
		level WARN
		format console
	}
	servers {
		protocols h1
	}
	edgerelay {
		channel_layer memory
		auth none
		history *
		plugin redact %q {
			groups *
		}
	}
}
:%d {
	edgerelay
	edgerelay_console
	edgerelay_demo
	edgerelay_health
}
`, admin, plugin, s.port)
}
