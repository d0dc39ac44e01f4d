package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var address *string
	var live bool
	cmd := &cobra.Command{
		Use:   "health [--live]",
		Short: "Show the node's health, and fail if the node is unhealthy",
		Long: "Shows the node's health, always as JSON. The exit code is 0 while events can reach the node, else 1. With\n" +
			"--live the exit code is 0 while the process responds. For health checks of containers and service\n" +
			"managers, which know no other codes: the code is also 1 if the admin API does not respond.",
		Example: "  caddy edgerelay health\n  caddy edgerelay health --live\n  caddy edgerelay health | jq -r .status",
		Args:    cobra.NoArgs,
		RunE: runE(func(ctx context.Context, _ []string) error {
			path := "/edgerelay/health/ready"
			if live {
				path = "/edgerelay/health/live"
			}
			resp, err := requestAdmin(ctx, *address, http.MethodGet, path, nil)
			var unhealthy *adminError
			if errors.As(err, &unhealthy) && unhealthy.status == http.StatusServiceUnavailable &&
				json.Valid(unhealthy.body) {
				// Print the health of an unhealthy node, too: scripts need the cause.
				_, _ = os.Stdout.Write(unhealthy.body)
				return errors.New("the node is unhealthy")
			}
			if err != nil {
				return &codedError{err, exitFailed}
			}
			defer func() { _ = resp.Body.Close() }()
			var raw json.RawMessage
			if err := decodeResponse(*address, path, resp.Body, &raw); err != nil {
				return &codedError{err, exitFailed}
			}
			var health struct{ Status string }
			if json.Unmarshal(raw, &health) != nil || health.Status == "" {
				return resolveAdmin(*address).noAdmin("since the response has no status")
			}
			return printRaw(raw)
		}),
	}
	cmd.Flags().BoolVar(&live, "live", false, "check only whether the process responds")
	_ = addJSONFlag(cmd) // the only format, with and without the flag
	address = addAddressFlag(cmd)
	return cmd
}
