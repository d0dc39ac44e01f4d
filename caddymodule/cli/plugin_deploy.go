package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// changeFlags are the flags of commands that change a plugin's module.
type changeFlags struct{ address, by, message, expect string }

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.by, "by", author(), "author of the change, for the history")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "reason for the change, for the history")
	cmd.Flags().StringVar(&f.expect, "expect", "",
		"hash of the module that must run now, as in 'plugin list' or whole; else nothing changes")
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
		return "", fmt.Errorf("invalid --expect %q; use the first %d digits of a hash, or all", f.expect, minHashPrefix)
	case !strings.HasPrefix(p.Hash, f.expect):
		return "", fmt.Errorf("the plugin has changed: the current hash is %s; look at the change and repeat yours", p.Hash)
	}
	return p.Hash, nil
}

func pluginPath(name, suffix string) string {
	return "/edgerelay/plugins/" + url.PathEscape(name) + suffix
}

// changeCommand returns a command with a plugin's name as its only argument.
func changeCommand(f *changeFlags, use, short, long string, run func(name string) error) *cobra.Command {
	cmd := adminCommand(use, short, long, 1, func(address string, args []string) error {
		f.address = address
		return run(args[0])
	})
	f.add(cmd)
	return cmd
}

// send sends a request that changes a plugin's module, and prints the current module.
func (f *changeFlags) send(method, name, suffix string, further url.Values, header http.Header, body []byte) error {
	if header.Get("If-Match") == "" && f.expect != "" {
		var p pluginhost.Status
		if err := getAdmin(f.address, pluginPath(name, ""), &p); err != nil {
			return err
		}
		expect, err := f.expected(&p)
		if err != nil {
			return err
		}
		header = f.header(expect)
	}
	var p pluginhost.Status
	err := decodeAdmin(f.address, method, pluginPath(name, suffix)+f.query(further), header, body, &p)
	if err != nil {
		return err
	}
	version := ""
	if p.Version != 0 {
		version = fmt.Sprintf(", version %d", p.Version)
	}
	fmt.Printf("%s: module %.12s is active (%s) from %s%s\n", p.Name, p.Hash, p.Hooks, p.From, version)
	return nil
}

// deployFlags are the flags of plugin deploy.
type deployFlags struct {
	changeFlags
	settings string
	yes      bool
}

func pluginDeployCommand() *cobra.Command {
	const long = "Deploys a .wasm file as the module of a plugin, on every node that shares Caddy's storage.\n" +
		"The relay checks the module first. A rejected module changes nothing.\n\n" +
		"On a terminal, the command shows what changes and asks before it deploys."
	f := &deployFlags{}
	cmd := adminCommand("deploy <name> <file>", "Deploy a module", long, 2, func(address string, args []string) error {
		f.address = address
		return f.run(os.Stdout, args[0], args[1])
	})
	f.add(cmd)
	cmd.Flags().StringVar(&f.settings, "settings", "",
		"JSON file with settings that travel with the module and override those of the Caddyfile")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (f *deployFlags) run(w io.Writer, name, file string) error {
	wasm, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var settings []byte
	if f.settings != "" {
		if settings, err = os.ReadFile(f.settings); err != nil {
			return err
		}
	}
	var now pluginhost.Status
	if err := getAdmin(f.address, pluginPath(name, ""), &now); err != nil {
		return err
	}
	expect, err := f.expected(&now)
	if err != nil {
		return err
	}
	if err := describeDeployment(w, &now, wasm, settings); err != nil {
		return err
	}
	if !f.yes && term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) {
		if err := confirm(os.Stdin, w, "Deploy it on every node? [y/N] "); err != nil {
			return err
		}
		if expect == "" {
			expect = now.Hash // the answer is about what was shown
		}
	}
	header, body := f.header(expect), wasm
	if settings != nil {
		if body, err = encodeForm(header, wasm, settings); err != nil {
			return err
		}
	}
	return f.send(http.MethodPut, name, "", nil, header, body)
}

// encodeForm returns a form with a module and settings, and sets its content type.
func encodeForm(header http.Header, wasm, settings []byte) ([]byte, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, p := range []struct {
		name, kind string
		content    []byte
	}{{"module", "application/wasm", wasm}, {"settings", "application/json", settings}} {
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, p.name, p.name)},
			"Content-Type":        {p.kind},
		})
		if err == nil {
			_, err = part.Write(p.content)
		}
		if err != nil {
			return nil, err
		}
	}
	header.Set("Content-Type", form.FormDataContentType())
	if err := form.Close(); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// describeDeployment prints what a deployment changes. A module whose manifest asks for grants that the plugin does not
// have is an error, as it will be on every node.
func describeDeployment(w io.Writer, now *pluginhost.Status, wasm, settings []byte) error {
	in, err := plugins.Inspect(wasm)
	if err != nil {
		return err
	}
	granted := now.Grants
	if len(settings) > 0 {
		var s struct{ Grant, Grants *[]string }
		if err := json.Unmarshal(settings, &s); err != nil {
			return fmt.Errorf("reading the settings: %w", err)
		}
		if list := cmp.Or(s.Grant, s.Grants); list != nil {
			granted = *list
		}
	}
	fmt.Fprintf(w, "%s: now %.12s%s from %s\n", now.Name, now.Hash, inParentheses(now.Module, now.ModuleVersion), now.From)
	name, version := "", ""
	wanted := slices.Clone(in.Grants)
	if m := in.Manifest; m != nil {
		name, version = m.Name, m.Version
		wanted = append(wanted, m.Grants...)
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	fmt.Fprintf(w, "%s: new %.12s%s, %d bytes\n", now.Name, in.Hash, inParentheses(name, version), in.Size)
	if len(wanted) == 0 {
		return nil
	}
	fmt.Fprintf(w, "%s: wants %s\n", now.Name, joinGrants(wanted))
	missing := slices.DeleteFunc(slices.Clone(wanted), func(g plugins.Grant) bool {
		return slices.Contains(granted, string(g))
	})
	if len(missing) > 0 {
		m := cmp.Or(in.Manifest, &plugins.Manifest{})
		return fmt.Errorf("the plugin lacks %s; add %s to its block in the Caddyfile, or pass --settings",
			joinGrants(missing), m.GrantLines(missing))
	}
	return nil
}

func joinGrants(grants []plugins.Grant) string {
	words := make([]string, len(grants))
	for i, g := range grants {
		words[i] = string(g)
	}
	return strings.Join(words, ", ")
}

// inParentheses returns name and version of a manifest, if there are any.
func inParentheses(name, version string) string {
	text := strings.TrimSpace(name + " " + version)
	if text == "" {
		return ""
	}
	return " (" + printable(text) + ")"
}

// confirm asks a question, and returns an error unless the answer is yes.
func confirm(in io.Reader, w io.Writer, question string) error {
	fmt.Fprint(w, question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && answer == "" {
		return errors.New("not deployed")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not deployed")
}

func pluginRollbackCommand() *cobra.Command {
	const short = "Deploy an earlier module"
	const long = "Deploys the module before the last change. A second rollback reverts the first. With --to, it\n" +
		"returns to any version of the history."
	f := &changeFlags{}
	var to uint64
	var force bool
	cmd := changeCommand(f, "rollback <name>", short, long, func(name string) error {
		further := url.Values{}
		if to != 0 {
			further.Set("to", fmt.Sprint(to))
		}
		if force {
			further.Set("force", "true")
		}
		return f.send(http.MethodPost, name, "/rollback", further, nil, nil)
	})
	cmd.Flags().Uint64Var(&to, "to", 0, "version to return to, see 'plugin history'")
	cmd.Flags().BoolVar(&force, "force", false, "skip the samples, and only the samples")
	return cmd
}

func pluginUndeployCommand() *cobra.Command {
	const short = "Take a deployment back"
	const long = "Takes the deployment of a plugin back: each node runs its file again. A rollback reverts it."
	f := &changeFlags{}
	return changeCommand(f, "undeploy <name>", short, long, func(name string) error {
		return f.send(http.MethodDelete, name, "/deployment", nil, nil, nil)
	})
}

func pluginHistoryCommand() *cobra.Command {
	const short = "List the versions of a plugin"
	const long = "Lists the last ten versions of a plugin's deployment, newest first. An asterisk marks the version\n" +
		"that applies; a node whose file has changed since runs its file."
	var asJSON bool
	cmd := adminCommand("history <name>", short, long, 1, func(address string, args []string) error {
		var list []pluginhost.HistoryEntry
		if err := getAdmin(address, pluginPath(args[0], "/history"), &list); err != nil {
			return err
		}
		if asJSON {
			return printJSON(os.Stdout, list)
		}
		return printHistory(os.Stdout, list)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printHistory writes the versions of a plugin as a table.
func printHistory(out io.Writer, list []pluginhost.HistoryEntry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tHASH\tWHEN\tWHO\tWHAT\tMODULE\tWHY")
	for _, e := range list {
		version, when := fmt.Sprint(e.Version), "-"
		if e.Current {
			version += "*"
		}
		if !e.At.IsZero() {
			when = e.At.Local().Format("2006-01-02 15:04:05")
		}
		what := string(e.Origin)
		if e.Of != 0 {
			what += fmt.Sprintf(" to %d", e.Of)
		}
		if e.Forced {
			what += " (forced)"
		}
		if !e.Available {
			what += " (module not kept)"
		}
		module := strings.TrimSpace(e.Module + " " + e.ModuleVersion)
		fmt.Fprintf(w, "%s\t%.12s\t%s\t%s\t%s\t%s\t%s\n", version, e.Hash, when, printable(cmp.Or(e.By, "-")), what,
			printable(cmp.Or(module, "-")), printable(e.Message))
	}
	return w.Flush()
}

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
