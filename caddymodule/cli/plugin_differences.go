package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/plugins"
)

func pluginDifferencesCommand() *cobra.Command {
	const short = "Show the last events about which a shadow decided otherwise"
	const long = "Shows the last 20 events about which a shadow decided otherwise than its original, with both decisions.\n" +
		"The payloads can hold secrets that plugins redact for clients."
	asJSON := false
	cmd := adminCommand("differences <name>", short, long, 1, func(ctx context.Context, address string, args []string) error {
		return printAdminList(ctx, address, pluginPath(args[0], "/differences"), "differences", asJSON, printDifferences)
	})
	cmd.Example = "  caddy edgerelay plugin differences redact-next"
	cmd.Flags().BoolVar(&asJSON, "json", false, jsonUsage)
	return cmd
}

// printDifferences writes the differing decisions of a shadow as text.
func printDifferences(w io.Writer, list []plugins.ShadowDifference) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no differing decisions")
		return err
	}
	for _, d := range list {
		at := d.At.Format("2006-01-02T15:04:05.000Z07:00")
		if _, err := fmt.Fprintf(w, "%s %s %s\n  original: %s\n  shadow:   %s\n", at, d.Group,
			shorten(d.Payload, d.PayloadBytes), describeDecision(&d.Original), describeDecision(&d.Shadow)); err != nil {
			return err
		}
	}
	return nil
}

// describeDecision returns a decision in a line.
func describeDecision(d *plugins.EventDecision) string {
	parts := []string{d.Verdict}
	if d.Verdict == plugins.Replace.String() {
		parts = append(parts, shorten(d.Output, d.OutputBytes))
	}
	if d.Audience != nil {
		parts = append(parts, fmt.Sprintf("for classes %v", d.Audience))
	}
	for _, e := range d.Emits {
		to := "emits"
		if e.Group != "" {
			to = "emits to " + e.Group
		}
		parts = append(parts, to+" "+shorten(e.Payload, e.PayloadBytes))
	}
	if d.Error != "" {
		parts = append(parts, printable(d.Error))
	}
	return strings.Join(parts, ", ")
}

// shorten returns the beginning of a payload for a line of a terminal, with the full size if it was cut.
func shorten(text string, size int) string {
	const width = 240
	text = printable(text)
	if len(text) <= width && len(text) >= size {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:min(len(text), width)], ""), size)
}
