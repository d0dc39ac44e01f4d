package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var address *string
	var live bool
	cmd := &cobra.Command{
		Use:   "health [--live]",
		Short: "Show the node's state, and fail if it is unhealthy",
		Long: "Shows the node's state as JSON. The exit code is 0 while events can reach the node, else 1; with --live it is 0 while\n" +
			"the process answers. For the health checks of containers and service managers.",
		Args: cobra.NoArgs,
		RunE: running(func([]string) error {
			path := "/edgerelay/health/ready"
			if live {
				path = "/edgerelay/health/live"
			}
			resp, err := requestAdmin(*address, http.MethodGet, path, nil)
			var unhealthy *adminError
			if errors.As(err, &unhealthy) && unhealthy.status == http.StatusServiceUnavailable &&
				json.Valid(unhealthy.body) {
				// The state is printed all the same: scripts read it when it matters most.
				_, _ = os.Stdout.Write(unhealthy.body)
				return errors.New("the node is unhealthy")
			}
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			_, err = io.Copy(os.Stdout, resp.Body)
			return err
		}),
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the process answers")
	address = adminAddress(cmd)
	return cmd
}
