package caddymodule

import (
	"io"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var address *string
	var live bool
	cmd := &cobra.Command{
		Use:   "health [--live]",
		Short: "Show the node's state, and fail if it is not well",
		Long: "Shows the node's state as JSON. The exit code is 0 while events can reach the node, else 1; with --live it is 0 while\n" +
			"the process answers. For the health checks of containers and service managers.",
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			path := "/edgerelay/health/ready"
			if live {
				path = "/edgerelay/health/live"
			}
			resp, err := caddycmd.AdminAPIRequest(*address, http.MethodGet, path, nil, nil)
			if err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			defer func() { _ = resp.Body.Close() }()
			_, err = io.Copy(os.Stdout, resp.Body)
			return caddy.ExitCodeSuccess, err
		}),
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the process answers")
	address = adminAddress(cmd)
	return cmd
}
