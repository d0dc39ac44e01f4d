package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// deployFlags are the flags of plugin deploy.
type deployFlags struct {
	changeFlags
	registry registryFlags
	canaryFlags
	settings string
}

func pluginDeployCommand() *cobra.Command {
	const long = "Deploys a .wasm file, or an artifact of an OCI registry, as the module of a plugin, on every node that shares\n" +
		"Caddy's storage. The relay checks the module first. A rejected module changes nothing.\n\n" +
		"This command pulls the artifact, so the nodes need no access to the registry. A tag is resolved to a digest once,\n" +
		"and the history shows both. Signatures come from the registry, or from <file>.sig, see 'plugin sign'.\n\n" +
		"With --canary, the module decides for a share of the groups first. It is taken back on every node when it fails,\n" +
		"or promoted after --for, by 'plugin promote', or not at all by 'plugin rollback'.\n\n" +
		"On a terminal, the command shows what changes and asks before it deploys."
	f := &deployFlags{}
	const use = "deploy <name> <file.wasm|oci://…>"
	cmd := adminCommand(use, "Deploy a module", long, 2, func(ctx context.Context, address string, args []string) error {
		f.address = address
		return f.run(ctx, forPeople(f.asJSON), args[0], args[1])
	})
	cmd.Example = "  caddy edgerelay plugin deploy redact redact.wasm -m 'hides tokens'\n" +
		"  caddy edgerelay plugin deploy redact oci://registry.example.com/plugins/redact:1.2.0 --canary 10% --for 10m"
	f.changeFlags.add(cmd)
	f.canaryFlags.add(cmd)
	f.registry.add(cmd)
	cmd.Flags().StringVar(&f.settings, "settings", "",
		"JSON file with settings that travel with the module and override those of the Caddyfile")
	return cmd
}

func (f *deployFlags) run(ctx context.Context, w io.Writer, name, from string) error {
	s, err := f.registry.read(ctx, os.Stderr, from)
	if err != nil {
		return err
	}
	wasm := s.wasm
	var settings []byte
	if f.settings != "" {
		if settings, err = readFile("settings", f.settings); err != nil {
			return err
		}
	}
	var now pluginhost.Status
	if err := getAdmin(ctx, f.address, pluginPath(name, ""), &now); err != nil {
		return err
	}
	expect, err := f.expected(&now)
	if err != nil {
		return err
	}
	if s.ref != nil {
		fmt.Fprintf(w, "%s: %s\n", now.Name, s.ref)
	}
	if err := describeDeployment(w, &now, wasm, settings); err != nil {
		return err
	}
	if f.asks() {
		question := "Deploy it on every node?"
		if f.canary != "" {
			question = fmt.Sprintf("Deploy it on every node, for %s of the groups?", printable(f.canary))
		}
		if err := confirm(os.Stdin, w, question, "not deployed"); err != nil {
			return err
		}
		if expect == "" {
			expect = now.Hash // the answer concerns the module that was shown
		}
	}
	header, body := f.header(expect), wasm
	if settings != nil || len(s.signatures) > 0 {
		var kind string
		if body, kind, err = admin.EncodeDeployment(wasm, settings, s.signatures); err != nil {
			return err
		}
		header.Set("Content-Type", kind)
	}
	further := f.canaryFlags.query()
	if s.ref != nil {
		further.Set("ref", s.ref.String())
	}
	return f.send(ctx, http.MethodPut, name, "", further, header, body)
}

// describeDeployment prints the effect of a deployment. A module that needs further grants is an error, as on every
// node.
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
