package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unitTests are the commands of unit tests, by a file of the project that tells of them. The first one counts.
var unitTests = []struct{ file, command string }{
	{"test.sh", "sh test.sh"},
	{"go.mod", "go test ."},
	{"Cargo.toml", "cargo test --quiet"},
	{"package.json", "npm test --silent"},
}

// unitTestsOf returns the command of a project's unit tests, empty without one.
func unitTestsOf(dir string) string {
	for _, t := range unitTests {
		if _, err := os.Stat(filepath.Join(dir, t.file)); err == nil {
			return t.command
		}
	}
	return ""
}

// tests runs the project's unit tests.
func (o *pluginDev) tests(ctx context.Context) error {
	command := unitTestsOf(o.dir)
	if o.noTests || command == "" {
		return nil
	}
	args := strings.Fields(command)
	if _, err := exec.LookPath(args[0]); err != nil {
		fmt.Fprintf(o.w, "  the unit tests do not run: %s is not installed\n", args[0])
		return nil
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = o.dir
	endWithGroup(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	fmt.Fprintf(o.w, "  the unit tests pass: %s\n", command)
	return nil
}
