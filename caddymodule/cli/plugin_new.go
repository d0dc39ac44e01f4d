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
		Short: "Start a plugin of your own",
		Long: "Writes a plugin to a new directory, with the SDK, golden samples, a Caddyfile to try it and a README that tells how to build it.\n" +
			"Languages: " + strings.Join(scaffold.Languages(), ", ") + ".",
		Example: "  caddy edgerelay plugin new --lang go my-plugin",
		Args:    cobra.ExactArgs(1),
		RunE: running(func(args []string) error {
			if err := scaffold.New(lang, args[0], name); err != nil {
				return err
			}
			fmt.Printf("%s is a plugin; its README.md tells how to build and try it\n", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&lang, "lang", "go", "its language: "+strings.Join(scaffold.Languages(), ", "))
	cmd.Flags().StringVar(&name, "name", "", "its name; the directory's if it is not given")
	return cmd
}
