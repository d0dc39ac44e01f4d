package main

import (
	"os"
	"strings"
	"testing"
)

// docs/api.md is what the descriptions become.
func TestAPIPageIsFresh(t *testing.T) {
	want, err := apiPage("../../")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + apiFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what the OpenAPI descriptions become; run: go run ./internal/docs api", apiFile)
	}
	for _, part := range []string{
		"### POST /edgerelay/publish\n", "### GET /edgerelay/plugins/{name}\n", "#### Status\n",
		"| `status` | `ok`, `draining`, `unavailable` |", "| `name`, required | path | string |", "[Error](#error)",
	} {
		if !strings.Contains(string(want), part) {
			t.Errorf("the page lacks %q", part)
		}
	}
}
