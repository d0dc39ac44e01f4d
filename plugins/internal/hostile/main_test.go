package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// The first argument makes the test binary a compiler, or the parent of one, which measures it.
const (
	compileArgument = "compile-plugin"
	measureArgument = "measure-compiler"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case compileArgument:
			os.Exit(plugins.RunCompiler(os.Args[2:]))
		case measureArgument:
			os.Exit(measureCompiler(os.Args[2], os.Args[3:]))
		}
	}
	os.Exit(m.Run())
}

// measureCompiler starts a compiler and writes its processor time in milliseconds and its largest resident memory in
// bytes to a file. The kernel counts the memory of a process before it starts a program, too, so this process, which is
// small, stands between the tests and the compiler.
func measureCompiler(file string, args []string) (exitCode int) {
	name, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cmd := exec.Command(name, slices.Concat([]string{compileArgument}, args)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	failed := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, failed)
		return 2
	}
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	if runtime.GOOS != "darwin" {
		memory <<= 10
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d %d", cpu.Milliseconds(), memory), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if failed != nil {
		return 1
	}
	return 0
}
