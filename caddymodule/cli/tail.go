package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

func tailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail <group>",
		Short: "Follow the events of a group",
		Args:  cobra.ExactArgs(1),
		Long: "Shows the events of a group until Ctrl-C, as clients of this node receive them; with --raw, before\n" +
			"plugins. Events that arrive too fast are dropped and counted. A tail never delays deliveries.",
		Example: "  caddy edgerelay tail job_events-42\n" +
			"  caddy edgerelay tail --json jobs-status_changed | jq .data.status",
	}
	address := addAddressFlag(cmd)
	raw := cmd.Flags().Bool("raw", false, "show events before plugins")
	class := cmd.Flags().Int("class", 0, "audience class, for plugins that render events by class")
	asJSON := cmd.Flags().Bool("json", false, "print JSON, an object a line, with times and source")
	cmd.RunE = runE(func(args []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		path := "/edgerelay/groups/" + url.PathEscape(args[0]) + "/tail?raw=" + strconv.FormatBool(*raw) +
			"&class=" + strconv.Itoa(*class)
		return followTail(ctx, *address, path, *asJSON)
	})
	return cmd
}

// followTail prints a tail until ctx ends.
func followTail(ctx context.Context, address, path string, asJSON bool) error {
	resp, err := requestAdmin(address, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	defer context.AfterFunc(ctx, func() { _ = resp.Body.Close() })()
	err = printTail(os.Stdout, resp.Body, asJSON)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the relay ended the tail; check whether the relay is running")
	}
	return err
}

// printTail writes the lines of a tail as text, or unchanged as JSON.
func printTail(w io.Writer, lines io.Reader, asJSON bool) error {
	r := bufio.NewReader(lines)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var ev struct {
			admin.TailEvent
			Dropped int `json:"dropped"`
		}
		if err := json.Unmarshal(line, &ev); err != nil {
			return fmt.Errorf("decoding the tail: %w", err)
		}
		text := printable(string(line[:len(line)-1]))
		switch {
		case asJSON:
		case ev.Dropped > 0:
			text = fmt.Sprintf("%s … %d events dropped: they arrived too fast",
				ev.At.Local().Format(tailTime), ev.Dropped)
		default:
			text = ev.At.Local().Format(tailTime) + " " + printable(string(ev.Data)+ev.Text)
			if lag := ev.At.Sub(ev.Sent); !ev.Sent.IsZero() && lag >= time.Second {
				text += fmt.Sprintf("  (published %v earlier)", lag.Round(time.Millisecond))
			}
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
}

// tailTime is the layout of times.
const tailTime = "15:04:05.000"
