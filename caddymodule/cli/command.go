package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/internal/pyjson"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "edgerelay",
		Usage: "<command>",
		Short: "Commands for the realtime relay",
		Long:  "Commands for a running relay. They speak to it through Caddy's admin API.",
		CobraFunc: func(cmd *cobra.Command) {
			onlySubcommands(cmd)
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
		RunE: running(func([]string) error {
			if group == "" || data == "" {
				return errors.New("both --group and --data are needed")
			}
			if data == "-" {
				b, err := io.ReadAll(os.Stdin)
				if err != nil {
					return fmt.Errorf("reading the data: %w", err)
				}
				data = string(b)
			}
			if !json.Valid([]byte(data)) {
				return errors.New("--data is not JSON; a string needs quotes of its own, as in '\"text\"'")
			}
			// Not json.Marshal: it would rewrite the data, which clients get as it is written.
			body := pyjson.AppendString([]byte(`{"group": `), group)
			body = append(append(append(body, `, "data": `...), strings.TrimSpace(data)...), '}')
			var receipt admin.Receipt
			if err := askAdmin(*address, http.MethodPost, "/edgerelay/publish", body, &receipt); err != nil {
				return err
			}
			if receipt.Members == 0 {
				fmt.Fprintf(os.Stderr, "note: no client of this channel layer is subscribed to %s; names of groups are case-sensitive\n", group)
			}
			return json.NewEncoder(os.Stdout).Encode(receipt)
		}),
	}
	cmd.Flags().StringVarP(&group, "group", "g", "", "the full group name, such as job_events-42")
	cmd.Flags().StringVarP(&data, "data", "d", "", "the payload as JSON; - reads it from standard input")
	address = adminAddress(cmd)
	return cmd
}

// running makes RunE of a command that needs no more than its arguments. An error is written once, on a line of its
// own, and makes the exit code 1; the command's usage stays away, since the arguments were right.
func running(run func(args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(args)
		if err != nil {
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			fmt.Fprintln(cmd.ErrOrStderr(), "error:", err)
		}
		return err
	}
}

// onlySubcommands makes a command that has subcommands alone refuse any other word: cobra shows the help for it and
// calls that a success.
func onlySubcommands(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return running(func([]string) error {
			err := fmt.Errorf("unknown command %q; '%s --help' lists the commands", args[0], cmd.CommandPath())
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				err = fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(like, " or "))
			}
			return err
		})(cmd, args)
	}
}
