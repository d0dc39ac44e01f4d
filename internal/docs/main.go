// Command docs writes docs/configuration.md from the doc comments of the configuration's packages, and docs/api.md from
// the OpenAPI descriptions:
//
//	go run ./internal/docs reference
//	go run ./internal/docs api
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
	if slices.Equal(args, []string{"api"}) {
		text, err := apiPage("")
		if err != nil {
			return err
		}
		return os.WriteFile(apiFile, text, 0o644)
	}
	if !slices.Equal(args, []string{"reference"}) {
		return errors.New("usage: docs reference|api")
	}
	text, err := reference(configPackages...)
	if err != nil {
		return err
	}
	return os.WriteFile(referenceFile, text, 0o644)
}
