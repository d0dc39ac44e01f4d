package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// changeFlags are the flags of commands that change a plugin's module.
type changeFlags struct {
	address, by, message, expect, candidate string
	asJSON, concernsCanary                  bool
	confirmation
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.by, "by", author(), "author of the change, for the history; default: user@host")
	cmd.Flags().Lookup("by").DefValue = "" // the help is the same on every host
	cmd.Flags().BoolVar(&f.asJSON, "json", false, jsonUsage)
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "reason for the change, for the history")
	cmd.Flags().StringVar(&f.expect, "expect", "",
		"hash of the module that must run now, as in 'plugin list' or whole; else nothing changes")
	f.confirmation.add(cmd)
}

// addCandidate adds the flag --candidate, of commands that concern a canary.
func (f *changeFlags) addCandidate(cmd *cobra.Command) {
	f.concernsCanary = true
	cmd.Flags().StringVar(&f.candidate, "candidate", "",
		"hash of the canary's module that must run now, as in 'plugin canary' or whole, or none; else nothing changes")
}

// author returns user@host of the command.
func author() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// query returns the parameters of the change, with further ones.
func (f *changeFlags) query(further url.Values) string {
	q := url.Values{}
	for name, value := range map[string]string{"by": f.by, "message": f.message} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, values := range further {
		q[name] = values
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// header returns the header with the expected hash.
func (f *changeFlags) header(expect string) http.Header {
	header := http.Header{}
	if expect != "" {
		header.Set("If-Match", `"`+expect+`"`)
	}
	return header
}

// minHashPrefix is the length of a hash in lists.
const minHashPrefix = 12

// expected returns the whole hash that --expect names. A shortened hash is completed if it is that of the running
// module.
func (f *changeFlags) expected(p *pluginhost.Status) (string, error) {
	if f.expect == "" || f.expect == "*" || len(f.expect) == len(p.Hash) {
		return f.expect, nil
	}
	switch {
	case len(f.expect) < minHashPrefix:
		return "", usageErrorf("invalid --expect %q; use the first %d digits of a hash, or all", f.expect,
			minHashPrefix)
	case !strings.HasPrefix(p.Hash, f.expect):
		return "", fmt.Errorf("the plugin has changed: the current hash is %s; look at the change and repeat yours", p.Hash)
	}
	return p.Hash, nil
}

// withCandidate adds the whole hash that --candidate names to parameters. A shortened hash is completed if it is that
// of the running canary.
func (f *changeFlags) withCandidate(further url.Values, p *pluginhost.Status) (url.Values, error) {
	if f.candidate == "" {
		return further, nil
	}
	candidate, runs := f.candidate, pluginhost.NoCandidate
	if p.Canary != nil && p.Canary.Phase == pluginhost.CanaryRunning {
		runs = p.Canary.Hash
	}
	switch {
	case candidate == pluginhost.NoCandidate || len(candidate) == len(p.Hash):
	case len(candidate) < minHashPrefix:
		return nil, usageErrorf("invalid --candidate %q; use the first %d digits of a hash, or all, or %s",
			candidate, minHashPrefix, pluginhost.NoCandidate)
	case !strings.HasPrefix(runs, candidate):
		return nil, fmt.Errorf("the canary has changed: the candidate is %s; look at the change and repeat yours", runs)
	default:
		candidate = runs
	}
	if further == nil {
		further = url.Values{}
	}
	further.Set("candidate", candidate)
	return further, nil
}

func pluginPath(name, suffix string) string {
	return "/edgerelay/plugins/" + url.PathEscape(name) + suffix
}

// changeCommand returns a command with a plugin's name as its only argument.
func changeCommand(f *changeFlags, use, short, long string, run func(ctx context.Context, name string) error) *cobra.Command {
	cmd := adminCommand(use, short, long, 1, func(ctx context.Context, address string, args []string) error {
		f.address = address
		return run(ctx, args[0])
	})
	f.add(cmd)
	return cmd
}

// confirm shows the module of a plugin and asks before a change. The answer holds for that module: if another one runs
// by then, nothing changes.
func (f *changeFlags) confirm(ctx context.Context, name, question, otherwise string) error {
	if !f.asks() {
		return nil
	}
	var now pluginhost.Status
	if err := getAdmin(ctx, f.address, pluginPath(name, ""), &now); err != nil {
		return err
	}
	w, candidate := forPeople(f.asJSON), pluginhost.NoCandidate
	fmt.Fprintf(w, "%s: now %.12s%s from %s\n", now.Name, now.Hash, inParentheses(now.Module, now.ModuleVersion), now.From)
	if now.Canary != nil && now.Canary.Phase == pluginhost.CanaryRunning {
		candidate = now.Canary.Hash
		printCanary(w, &now, time.Now())
	}
	if err := confirm(os.Stdin, w, question, otherwise); err != nil {
		return err
	}
	f.expect = cmp.Or(f.expect, now.Hash)
	if f.concernsCanary {
		f.candidate = cmp.Or(f.candidate, candidate)
	}
	return nil
}

// send sends a request that changes a plugin's module, and prints the current module.
func (f *changeFlags) send(
	ctx context.Context, method, name, suffix string, further url.Values, header http.Header, body []byte,
) error {
	if header.Get("If-Match") == "" && f.expect != "" || f.candidate != "" {
		var now pluginhost.Status
		if err := getAdmin(ctx, f.address, pluginPath(name, ""), &now); err != nil {
			return err
		}
		expect, err := f.expected(&now)
		if err != nil {
			return err
		}
		if expect != "" {
			header = f.header(expect)
		}
		if further, err = f.withCandidate(further, &now); err != nil {
			return err
		}
	}
	var p pluginhost.Status
	err := decodeAdmin(ctx, f.address, method, pluginPath(name, suffix)+f.query(further), header, body, &p)
	if err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(os.Stdout, &p)
	}
	version := ""
	if p.Version != 0 {
		version = fmt.Sprintf(", version %d", p.Version)
	}
	fmt.Printf("%s: module %.12s is active (%s) from %s%s\n", p.Name, p.Hash, p.Hooks, p.From, version)
	if p.Canary != nil && p.Canary.Phase == pluginhost.CanaryRunning {
		printCanary(os.Stdout, &p, time.Now())
	}
	return nil
}

func pluginRollbackCommand() *cobra.Command {
	const short = "Deploy an earlier module"
	const long = "Takes the candidate of a canary back, or deploys the module before the last change. A second rollback\n" +
		"reverts the first. With --to, it returns to any version of the history.\n\n" + asksOnTerminal
	f := &changeFlags{}
	var to uint64
	var force bool
	cmd := changeCommand(f, "rollback <name>", short, long, func(ctx context.Context, name string) error {
		further := url.Values{}
		if to != 0 {
			further.Set("to", fmt.Sprint(to))
		}
		if force {
			further.Set("force", "true")
		}
		if err := f.confirm(ctx, name, "Roll it back on every node?", "not rolled back"); err != nil {
			return err
		}
		return f.send(ctx, http.MethodPost, name, "/rollback", further, nil, nil)
	})
	cmd.Example = "  caddy edgerelay plugin rollback redact\n  caddy edgerelay plugin rollback redact --to 3"
	f.addCandidate(cmd)
	cmd.Flags().Uint64Var(&to, "to", 0, "version to return to, see 'plugin history'")
	cmd.Flags().BoolVar(&force, "force", false, "skip the samples, and only the samples")
	return cmd
}

func pluginUndeployCommand() *cobra.Command {
	const short = "Take a deployment back"
	const long = "Takes the deployment of a plugin back: each node runs its file again. A rollback reverts it.\n\n" +
		asksOnTerminal
	f := &changeFlags{}
	cmd := changeCommand(f, "undeploy <name>", short, long, func(ctx context.Context, name string) error {
		if err := f.confirm(ctx, name, "Take the deployment back on every node?", "not taken back"); err != nil {
			return err
		}
		return f.send(ctx, http.MethodDelete, name, "/deployment", nil, nil, nil)
	})
	cmd.Example = "  caddy edgerelay plugin undeploy redact"
	return cmd
}
