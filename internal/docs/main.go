// Command docs writes docs/configuration.md from the doc comments of the configuration's packages:
//
//	go run ./internal/docs reference
//
// Run it from the module's root. The tests also check the links of all Markdown files.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if !slices.Equal(args, []string{"reference"}) {
		return errors.New("usage: docs reference")
	}
	text, err := reference(configPackages...)
	if err != nil {
		return err
	}
	return os.WriteFile(referenceFile, text, 0o644)
}
