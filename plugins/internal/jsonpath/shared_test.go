package jsonpath

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// TestSharedCases runs the cases that the SDKs' replacements for the host must pass, too.
func TestSharedCases(t *testing.T) {
	f, err := os.Open("../../../sdk/testdata/jsonpath.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var c struct {
			Doc, Path string
			Raw, Text *string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		doc := []byte(c.Doc)
		from, to, ok := Find(doc, []byte(c.Path))
		switch {
		case ok != (c.Raw != nil):
			t.Errorf("%s at %q: found %v", c.Doc, c.Path, ok)
		case ok && (string(doc[from:to]) != *c.Raw || string(Text(doc[from:to])) != *c.Text):
			t.Errorf("%s at %q: %s instead of %s", c.Doc, c.Path, doc[from:to], *c.Raw)
		}
	}
	if n < 15 {
		t.Errorf("%d cases", n)
	}
}
