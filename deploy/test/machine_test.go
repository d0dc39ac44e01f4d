package deploy

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// machine is a copy of this machine's files. Changes go to a folder of the test: an overlay that only a holder process
// and its children have mounted.
type machine struct {
	t    *testing.T
	root string // as others see it, by /proc of the holder
}

// newMachine mounts the overlay in a mount namespace of its own. It needs root.
func newMachine(t *testing.T) machine {
	t.Helper()
	dir := t.TempDir()
	const script = `set -e
mount -t tmpfs none "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount -t tmpfs none "$0/root/run"
mount -t proc proc "$0/root/proc"
echo ready
exec cat`
	holder := exec.Command("sh", "-c", script, dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	holder.Stderr = os.Stderr
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("a mount namespace: %v; run the tests as root", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = holder.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("the overlay: %v; run the tests as root", err)
	}
	return machine{t, filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "root", dir, "root")}
}

// copy copies a file into the machine.
func (m machine) copy(from, to string) {
	m.t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.root, to), text, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// run runs a command in the machine, and returns its output.
func (m machine) run(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("chroot", append([]string{m.root}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// check compares the output of a command.
func (m machine) check(what, command, want string) {
	m.t.Helper()
	if got := strings.TrimSpace(m.run("sh", "-c", command)); got != want {
		m.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
