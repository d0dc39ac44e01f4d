package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/internal/pyjson"
)

func publishCommand() *cobra.Command {
	var group, data, kind string
	var binary []string
	var address *string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "publish --group <name> [--type <type>] --data <JSON|->",
		Short: "Publish an event to a group",
		Long: "Publishes an event to a group of the channel layer, like an emitter. Every subscribed client\n" +
			"receives the data unchanged, on this node and on other nodes of the same channel layer.\n\n" +
			"With --type, the event is a message of that type, and the data are its other members: what\n" +
			"group_send(group, {\"type\": type, **data}) sends. Clients of routes with a rule for the type receive it,\n" +
			"and consumers of Python.\n\n" +
			"The command prints the number of the group's members: nodes with clients, and consumers of Python. It says so\n" +
			"if there are none.",
		Example: `  caddy edgerelay publish --group jobs-status_changed --data '{"unified_job_id": 42, "status": "successful"}'` + "\n" +
			`  caddy edgerelay publish --group chat_lobby --type chat.message --data '{"message": "hello"}'`,
		Args: cobra.NoArgs,
		RunE: runE(func(ctx context.Context, _ []string) error {
			if group == "" || data == "" {
				return usageErrorf("set both --group and --data, such as --group jobs-status_changed --data '{}'")
			}
			data, err := readData(data, os.Stdin)
			if err != nil {
				return err
			}
			// json.Marshal would change the white space of the data, which clients must receive unchanged.
			body := pyjson.AppendString([]byte(`{"group": `), group)
			if kind != "" {
				body = pyjson.AppendString(append(body, `, "type": `...), kind)
			}
			if len(binary) > 0 {
				body = pyjson.AppendStrings(append(body, `, "binary": `...), binary)
			}
			body = append(append(append(body, `, "data": `...), strings.TrimSpace(data)...), '}')
			var receipt admin.Receipt
			if err := callAdmin(ctx, *address, http.MethodPost, "/edgerelay/publish", body, &receipt); err != nil {
				return err
			}
			if receipt.Members == 0 {
				fmt.Fprintf(os.Stderr, "note: no client of this channel layer is subscribed to %s; "+
					"names of groups are case-sensitive\n", group)
			}
			if *asJSON {
				return json.NewEncoder(os.Stdout).Encode(receipt)
			}
			return writeReceipt(os.Stdout, group, &receipt)
		}),
	}
	cmd.Flags().StringVarP(&group, "group", "g", "", "the full group name, such as job_events-42")
	cmd.Flags().StringVarP(&kind, "type", "t", "", "the type of the message, such as chat.message")
	cmd.Flags().StringSliceVar(&binary, "binary", nil, "with --type: members of the data that are base64, and sent as bytes")
	cmd.Flags().StringVarP(&data, "data", "d", "", "the payload as JSON; - reads standard input")
	address, asJSON = addAddressFlag(cmd), addJSONFlag(cmd)
	return cmd
}

// readData returns the JSON of the flag --data; "-" stands for standard input.
func readData(flag string, stdin io.Reader) (string, error) {
	data, what := flag, "--data"
	if flag == "-" {
		b, err := io.ReadAll(stdin)
		if err != nil {
			return "", fmt.Errorf("reading standard input: %w; pass the JSON with --data", err)
		}
		data, what = string(b), "standard input"
		if strings.TrimSpace(data) == "" {
			return "", usageErrorf("--data -: standard input is empty; pipe JSON into the command, or pass it with --data")
		}
	}
	if !json.Valid([]byte(data)) {
		return "", usageErrorf("%s is not JSON; write a string with quotes, as in '\"text\"'", what)
	}
	return data, nil
}

// writeReceipt tells how many receivers an event has in the channel layer.
func writeReceipt(w io.Writer, group string, r *admin.Receipt) error {
	text := fmt.Sprintf("published to %s: %s", group, count(r.Members, "member"))
	if r.OverCapacity > 0 {
		text += fmt.Sprintf(", %s of them over capacity, which do not get the event", comma(r.OverCapacity))
	}
	_, err := fmt.Fprintln(w, printable(text))
	return err
}
