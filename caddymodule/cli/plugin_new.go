package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/scaffold"
)

func pluginNewCommand() *cobra.Command {
	var kind, lang, name string
	cmd := &cobra.Command{
		Use:   "new --kind filter|function --language <language> <directory>",
		Short: "Create a plugin from a template",
		Long: "Writes a plugin to a new directory, with the SDK, a test, golden samples, a Caddyfile for trials, and a\n" +
			"README with the commands for building. A filter passes, changes or drops events. A function answers the\n" +
			"clients of a route, and comes with a page to open.\nLanguages: " + strings.Join(scaffold.Languages(), ", ") + ".",
		Example: "  caddy edgerelay plugin new --kind function --language rust my-room\n" +
			"  caddy edgerelay plugin dev my-room",
		Args: cobra.ExactArgs(1),
		RunE: runE(func(ctx context.Context, args []string) error {
			err := scaffold.New(kind, lang, args[0], name)
			if errors.Is(err, scaffold.ErrNoDirectory) {
				return usageErrorf("%w", err)
			}
			if err != nil {
				return err
			}
			fmt.Printf("created %s; its README.md explains how to build and try the plugin. To develop it:\n"+
				"  caddy edgerelay plugin dev %s\n", args[0], args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&kind, "kind", scaffold.Filter, "what the plugin is: filter (of events) or function (for clients)")
	cmd.Flags().StringVar(&lang, "language", "go", "language: "+strings.Join(scaffold.Languages(), ", "))
	cmd.Flags().StringVar(&lang, "lang", "go", "the same as --language")
	_ = cmd.Flags().MarkHidden("lang")
	allow(cmd, "kind", scaffold.Kinds()...)
	allow(cmd, "language", scaffold.Languages()...)
	allow(cmd, "lang", scaffold.Languages()...)
	cmd.Flags().StringVar(&name, "name", "", "name of the plugin; default: the name of the directory")
	return cmd
}
