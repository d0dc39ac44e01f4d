// Command commands writes docs/commands.md from the help of the commands. Run it from the module's root.
package main

import (
	"fmt"
	"os"

	"github.com/edgerelay/edgerelay/caddymodule/cli"
)

func main() {
	if err := os.WriteFile(cli.ReferenceFile, cli.Reference(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "commands:", err)
		os.Exit(1)
	}
}
