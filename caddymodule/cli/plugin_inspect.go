package cli

import (
	"cmp"
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
	cmd := &cobra.Command{
		Use:   "inspect <file.wasm>",
		Short: "Show hooks, imports, grants and manifest of a module",
		Long:  "Shows what a module is and needs, from its bytes. The module is neither compiled nor run.",
		Args:  cobra.ExactArgs(1),
		RunE: runE(func(args []string) error {
			wasm, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			in, err := plugins.Inspect(wasm)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(os.Stdout, in)
			}
			printInspection(os.Stdout, in)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printInspection writes an inspection as text.
func printInspection(w io.Writer, in *plugins.Inspection) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-12s %s\n", label, printable(text))
		}
	}
	if m := in.Manifest; m != nil {
		line("name", m.Name)
		line("version", m.Version)
		line("description", m.Description)
	} else {
		line("manifest", "none")
	}
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
}

func pluginEmbedManifestCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "embed-manifest <file.wasm> <manifest.json>",
		Short: "Write a manifest into a module",
		Long: "Writes a manifest into the custom section " + plugins.ManifestSection + " of a module, for languages that\n" +
			"cannot: Go and AssemblyScript. It replaces an earlier manifest, and checks the new one.",
		Args: cobra.ExactArgs(2),
		RunE: runE(func(args []string) error { return embedManifest(args[0], args[1], cmp.Or(out, args[0])) }),
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write; default: the module itself")
	return cmd
}

func embedManifest(module, manifest, out string) error {
	wasm, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	if wasm, err = plugins.EmbedManifest(wasm, text); err != nil {
		return err
	}
	// By a rename, since a relay may watch the file.
	f, err := os.CreateTemp(filepath.Dir(out), ".manifest-*.wasm")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(wasm)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}
