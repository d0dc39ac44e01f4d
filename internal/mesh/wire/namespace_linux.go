package wire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix begins the names of all namespaces; the number of the process that made the namespace follows.
const prefix = "mesh"

// Directories of iproute2: one file for each named namespace, and files that replace those of /etc in a namespace.
const (
	namesDir = "/run/netns"
	etcDir   = "/etc/netns"
)

// Namespace is a network namespace of this process's own, in which only the loopback device is up.
type Namespace struct {
	// Name is the name for ip netns.
	Name string

	file *os.File
}

// errMissing is the only obstacle that an installation removes.
var errMissing = errors.New("the program ip is missing; install iproute2")

// Need skips a test where the system refuses namespaces. A missing program fails it.
func Need(t interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
},
) {
	t.Helper()
	switch err := Possible(); {
	case errors.Is(err, errMissing):
		t.Fatalf("%v", err)
	case err != nil:
		t.Skipf("not run, since network namespaces cannot be made here: %v", err)
	}
}

// Possible returns an error that says why namespaces and TAP devices cannot be made here, if that is so.
func Possible() error {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errMissing
	}
	n, err := NewNamespace("try")
	if err != nil {
		return err
	}
	tap, err := n.OpenTAP("try")
	if err == nil {
		err = tap.Close()
	}
	return errors.Join(err, n.Close())
}

// NewNamespace makes a namespace whose name ends in a word. Close removes it.
func NewNamespace(word string) (*Namespace, error) {
	n := &Namespace{Name: prefix + strconv.Itoa(os.Getpid()) + "-" + word}
	if err := ip("netns", "add", n.Name); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(namesDir, n.Name))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.file = file
	if err := n.IP("link set lo up"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close removes the namespace. It lives on unseen while processes or sockets are in it.
func (n *Namespace) Close() error {
	if n.file != nil {
		_ = n.file.Close() // opened for reading
	}
	return errors.Join(os.RemoveAll(filepath.Join(etcDir, n.Name)), ip("netns", "del", n.Name))
}

// RemoveAbandoned removes the namespaces of processes that have ended without doing so.
func RemoveAbandoned() error {
	names, err := filepath.Glob(filepath.Join(namesDir, prefix+"[0-9]*-*"))
	if err != nil {
		return err
	}
	var failed error
	for _, path := range names {
		name := filepath.Base(path)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(etcDir, name)), ip("netns", "del", name))
	}
	return failed
}

// IP runs commands of the program ip in the namespace, each a line such as "link set eth0 up".
func (n *Namespace) IP(lines ...string) error {
	return ipWith(strings.Join(lines, "\n")+"\n", "-n", n.Name, "-batch", "-")
}

// WriteEtc replaces a file of /etc for the programs that [Namespace.Command] starts.
func (n *Namespace) WriteEtc(name, text string) error {
	dir := filepath.Join(etcDir, n.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}

// Command returns a command that runs a program in the namespace. Its process is the program's own.
func (n *Namespace) Command(program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name, program}, args...)...)
}

// Do calls f on a thread in the namespace. Sockets that f opens belong to the namespace for good; goroutines that f
// starts do not run in it.
func (n *Namespace) Do(f func() error) error {
	result := make(chan error, 1)
	go func() { result <- n.onThread(f) }()
	return <-result
}

func (n *Namespace) onThread(f func() error) error {
	runtime.LockOSThread()
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer before.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	err = f()
	if back := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and ends with this goroutine, so that nothing else runs in the namespace.
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", n.Name, back))
	}
	runtime.UnlockOSThread()
	return err
}

func ip(args ...string) error { return ipWith("", args...) }

func ipWith(input string, args ...string) error {
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
