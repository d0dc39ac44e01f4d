package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/pyjson"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "edgerelay",
		Usage: "<command>",
		Short: "Commands for the realtime relay",
		Long:  "Commands for a running relay. They speak to it through Caddy's admin API.",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(statusCommand(), healthCommand(), topCommand(), tailCommand(), publishCommand(), drainCommand(), doctorCommand(), benchCommand(), pluginCommand())
		},
	})
}

func publishCommand() *cobra.Command {
	var group, data string
	var address *string
	cmd := &cobra.Command{
		Use:   "publish --group <name> --data <JSON|->",
		Short: "Send an event to a group",
		Long: "Sends an event to a group of the channel layer, as any emitter would. Every client that is subscribed to the group, on\n" +
			"this node and on others of the same channel layer, gets the data as it is written here.",
		Example: `  caddy edgerelay publish --group jobs-status_changed --data '{"unified_job_id": 42, "status": "successful"}'`,
		Args:    cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			if group == "" || data == "" {
				return caddy.ExitCodeFailedStartup, errors.New("both --group and --data are needed")
			}
			if data == "-" {
				b, err := io.ReadAll(os.Stdin)
				if err != nil {
					return caddy.ExitCodeFailedStartup, fmt.Errorf("reading the data: %w", err)
				}
				data = string(b)
			}
			if !json.Valid([]byte(data)) {
				return caddy.ExitCodeFailedStartup, errors.New("--data is not JSON; a string needs quotes of its own, as in '\"text\"'")
			}
			// Not json.Marshal: it would rewrite the data, which clients get as it is written.
			body := pyjson.AppendString([]byte(`{"group": `), group)
			body = append(append(append(body, `, "data": `...), strings.TrimSpace(data)...), '}')
			resp, err := caddycmd.AdminAPIRequest(*address, http.MethodPost, "/edgerelay/publish",
				http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
			if err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			defer func() { _ = resp.Body.Close() }()
			_, err = io.Copy(os.Stdout, resp.Body)
			return caddy.ExitCodeSuccess, err
		}),
	}
	cmd.Flags().StringVarP(&group, "group", "g", "", "the full group name, such as job_events-42")
	cmd.Flags().StringVarP(&data, "data", "d", "", "the payload as JSON; - reads it from standard input")
	address = adminAddress(cmd)
	return cmd
}
