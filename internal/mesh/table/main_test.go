package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTableIsReplaced(t *testing.T) {
	dir := t.TempDir()
	page, rows := filepath.Join(dir, "page.md"), filepath.Join(dir, "rows.json")
	for file, text := range map[string]string{
		page: "before\n\n" + begin + "old\n" + end + "\nafter\n",
		rows: `{"scenario": "link down", "version": "now"}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time changes nothing
		if err := write(page, []string{rows}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		want := "before\n\n" + begin + "\n| scenario | now |\n|---|---|\n" +
			"| link down | nothing lost; latest event 0.0 s late |\n\n" + end + "\nafter\n"
		if string(text) != want {
			t.Fatalf("got  %s, want %s", text, want)
		}
	}
}

func TestPageHasTheMarks(t *testing.T) {
	text, err := os.ReadFile("../../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replace(string(text), ""); err != nil {
		t.Error(err)
	}
	if _, err := replace("no marks", ""); err == nil || !strings.Contains(err.Error(), "finding the table") {
		t.Errorf("got %v, want an error about the marks", err)
	}
}
