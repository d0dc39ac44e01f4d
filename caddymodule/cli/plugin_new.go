package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/internal/scaffold"
)

func pluginNewCommand() *cobra.Command {
	var lang, name string
	cmd := &cobra.Command{
		Use:   "new --lang <language> <directory>",
		Short: "Create a plugin from a template",
		Long: "Writes a plugin to a new directory, with the SDK, golden samples, a Caddyfile for trials, and a\n" +
			"README with the commands for building.\nLanguages: " + strings.Join(scaffold.Languages(), ", ") + ".",
		Example: "  caddy edgerelay plugin new --lang go my-plugin",
		Args:    cobra.ExactArgs(1),
		RunE: runE(func(args []string) error {
			if err := scaffold.New(lang, args[0], name); err != nil {
				return err
			}
			fmt.Printf("created %s; its README.md explains how to build and try the plugin\n", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&lang, "lang", "go", "language: "+strings.Join(scaffold.Languages(), ", "))
	cmd.Flags().StringVar(&name, "name", "", "name of the plugin; default: the name of the directory")
	return cmd
}
