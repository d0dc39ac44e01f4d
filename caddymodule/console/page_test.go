package console

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// The page waits until the node has answered: for the bytes of a module, and then for the compiler.
func TestPageWaitsForTheCompiler(t *testing.T) {
	text, err := os.ReadFile("page/plugins.js")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`const compileTimeout = (\d+);`).FindSubmatch(text)
	if m == nil {
		t.Fatal("plugins.js has no compileTimeout")
	}
	milliseconds, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	got, want := time.Duration(milliseconds)*time.Millisecond, max(uploadTimeout, pullTimeout)+plugins.MaxCompileTime
	if got <= want {
		t.Errorf("the page waits for %v, the node may need %v", got, want)
	}
	for _, action := range []string{"deploy", "pull", "rollback", "undeploy", "promote"} {
		if !regexp.MustCompile(`act\("` + action + `", .*timeout: compileTimeout\}\)`).Match(text) {
			t.Errorf("the action %s has another timeout", action)
		}
	}
}
