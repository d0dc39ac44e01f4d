package plugins

import (
	"os"
	"testing"
)

// compilerArgument makes the test binary a compiler.
const compilerArgument = "compile-plugin"

// child returns a compiler that runs the test binary.
func child(t testing.TB, l Limits) *ChildCompiler {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &ChildCompiler{Command: []string{name, compilerArgument}, Limits: func() Limits { return l }}
}

// needMachineCode skips a test of machine code where this process can only interpret.
func needMachineCode(t *testing.T) {
	t.Helper()
	if CurrentEngine() == EngineInterpreter {
		t.Skip("this process interprets modules")
	}
}
