package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// replayOptions are the flags of group replay.
type replayOptions struct {
	address, since string
	dryRun, asJSON bool
	confirmation
}

func groupReplayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use: "replay --since <time> <group>", Short: "Tell the clients of a group that they may have missed events",
		Args: cobra.ExactArgs(1),
		Long: "Tells the clients of a group on this node that they may have missed events. Clients with positions get the\n" +
			"events from the history again, as far as it reaches back; others get the text of the setting resync. The\n" +
			"relay sends no event again by itself. On a terminal, the command shows the effect and asks before it acts.",
		Example: "  caddy edgerelay group replay job_events-42 --since 5m --dry-run\n" +
			"  caddy edgerelay group replay job_events-42 --since 5m",
	}
	address := addAddressFlag(cmd)
	cmd.Flags().StringVar(&o.since, "since", "",
		"when the events may have been missed from: a duration such as 5m, a time, or a position")
	_ = cmd.MarkFlagRequired("since")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show the effect, and change nothing")
	o.confirmation.add(cmd)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, jsonUsage)
	cmd.RunE = runE(func(ctx context.Context, args []string) error {
		o.address = *address
		return o.run(ctx, args[0])
	})
	return cmd
}

func (o *replayOptions) run(ctx context.Context, group string) error {
	path := "/edgerelay/groups/" + url.PathEscape(group) + "/replay?" + url.Values{"since": {o.since}}.Encode()
	if o.dryRun || o.asks() {
		var plan admin.Replay
		if err := getAdmin(ctx, o.address, path, &plan); err != nil {
			return err
		}
		if o.dryRun {
			return o.print(os.Stdout, group, "would be told", &plan)
		}
		w := forPeople(o.asJSON)
		if err := writeReplay(w, group, "will be told", &plan); err != nil {
			return err
		}
		if err := confirm(os.Stdin, w, "Tell them?", "not replayed"); err != nil {
			return err
		}
	}
	var done admin.Replay
	if err := callAdmin(ctx, o.address, http.MethodPost, path, nil, &done); err != nil {
		return err
	}
	return o.print(os.Stdout, group, "told", &done)
}

// print writes the effect of a replay as text or JSON.
func (o *replayOptions) print(w io.Writer, group, told string, r *admin.Replay) error {
	if o.asJSON {
		return printJSON(w, r)
	}
	return writeReplay(w, group, told, r)
}

// writeReplay writes the effect of a replay. told is the verb of the sentence.
func writeReplay(w io.Writer, group, told string, r *admin.Replay) error {
	var parts []string
	for _, part := range []struct {
		clients int
		what    string
	}{{r.Clients, "with positions"}, {r.Resync, "by the text of resync"}} {
		if part.clients > 0 {
			parts = append(parts, english.Plural(part.clients, "client", "")+" "+part.what)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "no client")
	}
	line := strings.Join(parts, " and ") + " " + told
	if r.Untold > 0 {
		line += fmt.Sprintf("; %s cannot be told, since resync is not set", english.Plural(r.Untold, "client", ""))
	}
	switch {
	case r.Position != "":
		line += fmt.Sprintf("; the history has %s since then", english.Plural(r.Events, "event", ""))
	case r.Reason != "":
		line += "; the events are not in the history: " + r.Reason
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", printable(group), printable(line))
	return err
}
