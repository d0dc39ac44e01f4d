package edgerelay

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// TestPaths runs the table of cases that the relay's own search must pass, too.
func TestPaths(t *testing.T) {
	f, err := os.Open("../testdata/jsonpath.ndjson")
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
		from, to, ok := find([]byte(c.Doc), c.Path)
		switch {
		case ok != (c.Raw != nil):
			t.Errorf("%s at %q: found %v", c.Doc, c.Path, ok)
		case ok && (c.Doc[from:to] != *c.Raw || string(decoded([]byte(c.Doc[from:to]))) != *c.Text):
			t.Errorf("%s at %q: %s instead of %s", c.Doc, c.Path, c.Doc[from:to], *c.Raw)
		}
	}
	if n < 15 {
		t.Errorf("%d cases", n)
	}
}
