package main

import (
	"bytes"
	"strings"
	"testing"
)

// The licenses of the binary's modules are all there, each text once, and a second run writes the same.
func TestLicenses(t *testing.T) {
	t.Chdir("../../..")
	text, err := licenses("./caddymodule/cmd/caddy")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\ngithub.com/caddyserver/caddy/v2 v2.", "\ngithub.com/tetratelabs/wazero v", "\ngithub.com/klauspost/compress v",
		"\nGo, the standard library and the runtime\n", "Apache License", "Permission is hereby granted, free of charge",
		"Redistributions in binary form must reproduce",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(string(text), "edgerelay v") {
		t.Error("edgerelay is among its own dependencies")
	}
	again, err := licenses("./caddymodule/cmd/caddy")
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("a second run differs (%v)", err)
	}
}

func TestFoldersBetween(t *testing.T) {
	got := strings.Join(dirsBetween("/m@v1", "/m@v1/a/b"), " ")
	if want := "/m@v1/a/b /m@v1/a /m@v1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
