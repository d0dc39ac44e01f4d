package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// commandLine has the arguments of a command for TestMain, a line each.
const commandLine = "EDGERELAY_TEST_COMMAND"

// TestMain runs a command in place of the tests if [commandLine] asks for it: Caddy's own log is written to the
// process's standard error, not to that of the command. It also compiles modules for the tests: once the tree of
// commands exists, plugins are compiled by another process of the same program.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[2] == pluginCompileName {
		os.Exit(plugins.RunCompiler(os.Args[3:]))
	}
	runAsProgram()
	if len(os.Args) > 1 && os.Args[1] == "run" { // the relay of plugin dev: the tests must not start themselves
		os.Exit(1)
	}
	if line := os.Getenv(commandLine); line != "" {
		root := tree().Root()
		root.SilenceErrors = true
		root.SetArgs(strings.Split("edgerelay\n"+line, "\n"))
		os.Exit(codeOf(root.Execute()))
	}
	os.Exit(m.Run())
}

// executeAlone runs a command in a process of its own.
func executeAlone(t *testing.T, args ...string) outcome {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), commandLine+"="+strings.Join(args, "\n"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Caddy's own log lines do not stand before the error or the progress of a command that reads a configuration.
func TestConfigurationsAreReadInSilence(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "other.json")
	if err := os.WriteFile(file, []byte(`{"apps": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := executeAlone(t, "doctor", "--config", file)
	out.wantError(t, exitFailed, "the configuration has no edgerelay; add an edgerelay block")
	bundle := filepath.Join(dir, "bundle.tar.gz")
	out = executeAlone(t, "support-bundle", "--config", file, "--output", bundle)
	if out.code != 0 || out.stderr != "running the doctor\n" {
		t.Errorf("support-bundle: %+v", out)
	}
}

// An archive for the standard output is the only text there, and no file is named -.
func TestSupportBundleToStandardOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("other.json", []byte(`{"apps": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := executeAlone(t, "support-bundle", "--config", "other.json", "-o", "-")
	z, err := gzip.NewReader(strings.NewReader(out.stdout))
	if err != nil {
		t.Fatalf("%v: %+v", err, out)
	}
	first, err := tar.NewReader(z).Next()
	if err != nil || first.Name != "edgerelay-support/README.txt" {
		t.Errorf("the archive begins with %+v (%v)", first, err)
	}
	if out.code != 0 || !strings.Contains(out.stderr, "bundle written to the standard output: 4 files\n") {
		t.Errorf("exit code %d, stderr %q", out.code, out.stderr)
	}
	if _, err := os.Stat("-"); err == nil {
		t.Error("a file named - was created")
	}
	before := isTerminal
	isTerminal = func(*os.File) bool { return true }
	defer func() { isTerminal = before }()
	execute(t, "support-bundle", "--config", "other.json", "--output", "-").wantError(t, exitUsage, "redirect the standard output")
}
