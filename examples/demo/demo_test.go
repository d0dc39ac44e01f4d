package demo

import (
	"bytes"
	"os"
	"regexp"
	"testing"
)

// The plugin is the one of the examples.
func TestRedactIsCurrent(t *testing.T) {
	want, err := os.ReadFile("../plugins/redact-c/plugin.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Redact, want) {
		t.Error("redact.wasm is not examples/plugins/redact-c/plugin.wasm; copy it")
	}
}

// The page loads nothing from elsewhere, and has neither scripts nor styles in its HTML: its policy forbids them.
func TestPageIsSelfContained(t *testing.T) {
	if found := regexp.MustCompile(`<style|<script>|style="|\bon[a-z]+="|(?:src|href)="(?:https?:)?//`).Find(Page); found != nil {
		t.Errorf("index.html has %q", found)
	}
	for _, name := range []string{"page.js", "network.js", "style.css"} {
		if _, err := Assets.ReadFile(name); err != nil || !regexp.MustCompile(`(?:src|href|from)="?[^"]*`+name).Match(Page) &&
			name != "network.js" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
