package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/plugins"
)

func pluginInspectCommand() *cobra.Command {
	var asJSON bool
	f := &registryFlags{}
	cmd := &cobra.Command{
		Use:   "inspect <file.wasm|oci://…>",
		Short: "Show hooks, imports, grants and manifest of a module",
		Long:  "Shows what a module is and needs, from its bytes. The module is neither compiled nor run.",
		Args:  cobra.ExactArgs(1),
		RunE: runE(func(ctx context.Context, args []string) error {
			s, err := f.read(ctx, os.Stderr, args[0])
			if err != nil {
				return err
			}
			in, err := plugins.Inspect(s.wasm)
			if err != nil {
				return err
			}
			shipped := &shippedInspection{Inspection: in, Signatures: len(s.signatures)}
			if s.ref != nil {
				shipped.Ref = s.ref.String()
			}
			if asJSON {
				return printJSON(os.Stdout, shipped)
			}
			printInspection(os.Stdout, shipped)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, jsonUsage)
	cmd.Example = "  caddy edgerelay plugin inspect redact.wasm\n" +
		"  caddy edgerelay plugin inspect oci://registry.example.com/plugins/redact:1.2.0"
	f.add(cmd)
	return cmd
}

// shippedInspection is an inspection of a module with what came with it.
type shippedInspection struct {
	*plugins.Inspection
	// Ref is the reference with the digest, of a module from a registry.
	Ref string `json:"ref,omitempty"`
	// Signatures is the number of signatures. 'plugin verify' verifies them.
	Signatures int `json:"signatures,omitempty"`
}

// printInspection writes an inspection as text.
func printInspection(w io.Writer, in *shippedInspection) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-12s %s\n", label, printable(text))
		}
	}
	if m := in.Manifest; m != nil {
		line("name", m.Name)
		line("version", m.Version)
		line("description", m.Description)
		line("source", m.Source)
	} else {
		line("manifest", "none")
	}
	line("ref", in.Ref)
	line("hash", in.Hash)
	line("size", fmt.Sprintf("%d bytes", in.Size))
	line("abi", in.ABI)
	line("hooks", cmp.Or(strings.Join(in.Hooks, ", "), "none"))
	line("imports", cmp.Or(strings.Join(in.Imports, ", "), "none"))
	line("unknown", strings.Join(in.Unknown, ", "))
	line("grants", cmp.Or(joinGrants(in.Grants), "none"))
	if m := in.Manifest; m != nil {
		line("wants", joinGrants(m.Grants))
		line("tick", m.Tick)
		line("config", string(m.ConfigSchema))
	}
	if in.Signatures > 0 {
		line("signatures", fmt.Sprint(in.Signatures))
	}
}

func pluginEmbedManifestCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "embed-manifest <file.wasm> <manifest.json>",
		Short: "Write a manifest into a module",
		Long: "Writes a manifest into the custom section " + plugins.ManifestSection + " of a module, for languages that\n" +
			"cannot: Go and AssemblyScript. It replaces an earlier manifest, and checks the new one.",
		Args: cobra.ExactArgs(2),
	}
	cmd.RunE = runE(func(_ context.Context, args []string) error {
		return embedManifest(args[0], args[1], cmp.Or(out, args[0]))
	})
	cmd.Example = "  caddy edgerelay plugin embed-manifest redact.wasm manifest.json"
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write; default: the module itself")
	return cmd
}

func embedManifest(module, manifest, out string) error {
	wasm, err := readModule(module)
	if err != nil {
		return err
	}
	text, err := readFile("manifest", manifest)
	if err != nil {
		return err
	}
	if wasm, err = plugins.EmbedManifest(wasm, text); err != nil {
		return err
	}
	return replaceFile("module", out, wasm)
}

// replaceFile replaces a file by a rename, since a relay may watch the file. what is the noun for the error.
func replaceFile(what, name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return unwritable(what, name, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return unwritable(what, name, err)
	}
	return nil
}
