package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

func pluginCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "plugin <command>", Short: "Look after the plugins of a running relay, and try plugins out"}
	onlySubcommands(cmd)
	cmd.AddCommand(pluginListCommand(), pluginDeployCommand(), pluginRollbackCommand(), pluginLogsCommand(), pluginTestCommand(), pluginNewCommand())
	return cmd
}

// adminCommand makes a command that speaks to the admin API.
func adminCommand(use, short, long string, args int, run func(address string, args []string) error) *cobra.Command {
	var address *string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ExactArgs(args),
	}
	address = adminAddress(cmd)
	cmd.RunE = running(func(args []string) error { return run(*address, args) })
	return cmd
}

func pluginListCommand() *cobra.Command {
	return adminCommand("list", "List the plugins", "Lists the plugins in the order in which events go through them.", 0, func(address string, _ []string) error {
		var list []pluginhost.Status
		if err := askAdmin(address, http.MethodGet, "/edgerelay/plugins", nil, &list); err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tSTATE\tHASH\tFROM\tCALLS\tPASS\tDROP\tREPLACE\tEMIT\tDENY\tFAILED\tFUEL/CALL\tTROUBLE")
		for _, p := range list {
			fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", p.Name, stateOf(&p), p.Hash, p.From,
				p.Calls, p.Passed, p.Dropped, p.Replaced, p.Emitted, p.Denied, failuresOf(&p), p.Fuel/max(p.Calls, 1), troubleOf(&p))
		}
		return w.Flush()
	})
}

// state is one word for people.
func stateOf(p *pluginhost.Status) string {
	switch {
	case p.Breaker == "open":
		return "breaker-open"
	case p.Breaker == "half-open":
		return "breaker-half-open"
	case p.Refused != "":
		return "update-refused"
	case p.Shadow:
		return "shadow"
	}
	return "runs"
}

// trouble says in one line what is wrong: why a newer module is refused, or the last failure.
func troubleOf(p *pluginhost.Status) string {
	text := p.LastError
	if p.Refused != "" {
		text = "refused: " + p.Refused
	}
	text = strings.Join(strings.Fields(text), " ") // an error may have several lines
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "…"
	}
	return text
}

func failuresOf(p *pluginhost.Status) (n uint64) {
	for _, of := range p.Failures {
		n += of
	}
	return n
}

func pluginDeployCommand() *cobra.Command {
	return adminCommand("deploy <name> <file>", "Deploy a module",
		"Makes a .wasm file the module of a configured plugin, on every node that shares Caddy's storage. The module is checked first; one that\n"+
			"is refused changes nothing.", 2, func(address string, args []string) error {
			wasm, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			return change(address, http.MethodPut, "/edgerelay/plugins/"+url.PathEscape(args[0]), wasm)
		})
}

func pluginRollbackCommand() *cobra.Command {
	return adminCommand("rollback <name>", "Go back to the module before",
		"Deploys the module that ran before the last change. Twice is there and back.", 1, func(address string, args []string) error {
			return change(address, http.MethodPost, "/edgerelay/plugins/"+url.PathEscape(args[0])+"/rollback", nil)
		})
}

// change makes a request that changes a plugin's module, and tells what runs now.
func change(address, method, path string, body []byte) error {
	var p pluginhost.Status
	if err := askAdmin(address, method, path, body, &p); err != nil {
		return err
	}
	fmt.Printf("%s runs %.12s (%s)\n", p.Name, p.Hash, p.Hooks)
	return nil
}

func pluginLogsCommand() *cobra.Command {
	return adminCommand("logs <name>", "Show a plugin's last log lines", "", 1, func(address string, args []string) error {
		var lines []plugins.LogLine
		if err := askAdmin(address, http.MethodGet, "/edgerelay/plugins/"+url.PathEscape(args[0])+"/logs", nil, &lines); err != nil {
			return err
		}
		return printLogs(os.Stdout, lines)
	})
}

func printLogs(w io.Writer, lines []plugins.LogLine) error {
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s %-5s %s\n", l.Time.Format("2006-01-02T15:04:05.000Z07:00"), l.Level, l.Text); err != nil {
			return err
		}
	}
	return nil
}
