package cli

import "github.com/spf13/cobra"

func supportBundleCommand() *cobra.Command {
	return &cobra.Command{Use: "support-bundle", Hidden: true}
}
