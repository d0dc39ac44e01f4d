package plugins

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is also the main function of a [ChildCompiler]'s child. It fails the run if the tests leave goroutines of
// this package behind.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compilerArgument {
		os.Exit(RunCompiler(os.Args[2:]))
	}
	code := m.Run()
	if code == 0 {
		if left := leftGoroutines(10 * time.Second); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftGoroutines waits for the goroutines that run code of this module to end, and returns the stacks of those that
// do not.
func leftGoroutines(maxHostileCall time.Duration) string {
	deadline := time.Now().Add(maxHostileCall)
	for {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		var left []string
		for stack := range strings.SplitSeq(string(buf), "\n\n") {
			if strings.Contains(stack, "edgerelay/plugins.") && !strings.Contains(stack, "TestMain") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}
