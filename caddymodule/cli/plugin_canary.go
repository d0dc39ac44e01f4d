package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// canaryFlags are the flags of plugin deploy that describe a canary.
type canaryFlags struct{ canary, duration, maxErrors, maxSlowdown, maxDiffer string }

func (f *canaryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.canary, "canary", "",
		"share of the groups for which the new module decides, such as 10%; the running module decides for the others")
	cmd.Flags().StringVar(&f.duration, "for", "", "with --canary: promote the module after this time without faults")
	cmd.Flags().StringVar(&f.maxErrors, "max-errors", "",
		"with --canary: take the module back if more of its events fail (default 1%)")
	cmd.Flags().StringVar(&f.maxSlowdown, "max-slowdown", "",
		"with --canary: take the module back if its events take so many times as long (default 2x; 0: no limit)")
	cmd.Flags().StringVar(&f.maxDiffer, "max-differ", "",
		"with --canary: take the module back if it decides otherwise about more of the other groups' events "+
			"(default: no limit)")
}

// query returns the parameters of the canary.
func (f *canaryFlags) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"canary": f.canary, "for": f.duration, "max_errors": f.maxErrors, "max_slowdown": f.maxSlowdown,
		"max_differ": f.maxDiffer,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func pluginCanaryCommand() *cobra.Command {
	const short = "Show or resize the canary of a plugin"
	const long = "Shows the canary of a plugin, as this node sees it: the events of the candidate beside those of the\n" +
		"running module, or how the last canary ended. With --share, it gives the candidate another share of the groups,\n" +
		"and on a terminal asks before."
	f := &changeFlags{}
	var share string
	cmd := changeCommand(f, "canary <name>", short, long, func(ctx context.Context, name string) error {
		if share != "" {
			question := fmt.Sprintf("Give the candidate %s of the groups?", printable(share))
			if err := f.confirm(ctx, name, question, "not changed"); err != nil {
				return err
			}
			return f.send(ctx, http.MethodPut, name, "/canary", url.Values{"share": {share}}, nil, nil)
		}
		var p pluginhost.Status
		if err := getAdmin(ctx, f.address, pluginPath(name, ""), &p); err != nil {
			return err
		}
		if f.asJSON {
			return printJSON(os.Stdout, p.Canary)
		}
		printCanary(os.Stdout, &p, time.Now())
		return nil
	})
	cmd.Example = "  caddy edgerelay plugin canary redact\n  caddy edgerelay plugin canary redact --share 50%"
	f.addCandidate(cmd)
	cmd.Flags().StringVar(&share, "share", "", "new share of the groups, such as 50%")
	return cmd
}

func pluginPromoteCommand() *cobra.Command {
	const short = "Make the candidate of a canary the plugin's module"
	const long = "Makes the candidate of a canary the module of the plugin for all groups, on every node. 'plugin rollback'\n" +
		"takes a candidate back instead.\n\n" + asksOnTerminal
	f := &changeFlags{}
	cmd := changeCommand(f, "promote <name>", short, long, func(ctx context.Context, name string) error {
		if err := f.confirm(ctx, name, "Promote the candidate on every node?", "not promoted"); err != nil {
			return err
		}
		return f.send(ctx, http.MethodPost, name, "/promote", nil, nil, nil)
	})
	cmd.Example = "  caddy edgerelay plugin promote redact\n" +
		"  caddy edgerelay plugin promote redact --candidate 2c26b46b68ff"
	f.addCandidate(cmd)
	return cmd
}

// printCanary prints the state of a plugin's last canary.
func printCanary(w io.Writer, p *pluginhost.Status, now time.Time) {
	c := p.Canary
	if c == nil {
		fmt.Fprintf(w, "%s: no canary\n", p.Name)
		return
	}
	fmt.Fprintf(w, "%s: canary %.12s%s, %s of the groups, %s", p.Name, c.Hash, inParentheses(c.Module, c.ModuleVersion),
		showShare(c.Share), c.Phase)
	if c.Phase != pluginhost.CanaryRunning {
		fmt.Fprintf(w, " at %s by %s: %s", c.Ended.Format(time.DateTime), printable(c.EndedBy), printable(c.Reason))
		if c.Node != "" {
			fmt.Fprintf(w, " (on %s)", printable(c.Node))
		}
		fmt.Fprintln(w)
		return
	}
	fmt.Fprintf(w, " for %v", now.Sub(c.Since).Round(time.Second))
	if c.ForSeconds > 0 {
		left := c.Since.Add(time.Duration(c.ForSeconds * float64(time.Second))).Sub(now)
		fmt.Fprintf(w, ", promoted in %v", max(0, left).Round(time.Second))
	}
	fmt.Fprintln(w)
	if !c.Here {
		fmt.Fprintln(w, "  not started on this node yet")
		return
	}
	for _, m := range []struct {
		name  string
		calls plugins.CanaryCalls
	}{{"candidate", c.Candidate}, {"stable", c.Stable}} {
		if m.calls.Events == 0 {
			fmt.Fprintf(w, "  %-9s  no events yet\n", m.name)
			continue
		}
		fmt.Fprintf(w, "  %-9s  %d events, %d failed, half within %v, nine in ten within %v\n", m.name, m.calls.Events,
			m.calls.Failures, inMicroseconds(m.calls.MedianSeconds), inMicroseconds(m.calls.P90Seconds))
	}
	if c.NotCompared != "" {
		fmt.Fprintf(w, "  not compared: %s\n", printable(c.NotCompared))
	} else {
		fmt.Fprintf(w, "  compared   %d same, %d differ, %d skipped; see 'plugin differences'\n", c.Same, c.Differ, c.Skipped)
	}
}

func inMicroseconds(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
}

// showShare returns a share in percent.
func showShare(share float64) string { return fmt.Sprintf("%g%%", math.Round(1e4*share)/100) }
