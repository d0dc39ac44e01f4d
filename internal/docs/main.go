// Command docs makes what people read out of what the repository holds:
//
//	go run ./internal/docs reference    docs/configuration.md, from the doc comments of the configuration's packages
//	go run ./internal/docs site <dir>   a static site of docs/ and all that it links to
//
// Run it from the module's root.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "reference":
		text, err := reference(configPackages...)
		if err != nil {
			return err
		}
		return os.WriteFile(referenceFile, text, 0o644)
	case len(args) == 2 && args[0] == "site":
		return buildSite(".", args[1])
	}
	return fmt.Errorf("usage: docs reference | docs site <dir>")
}
