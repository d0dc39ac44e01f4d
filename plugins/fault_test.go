package plugins

import (
	"regexp"
	"testing"
)

func TestEngineFaultNamesThePlace(t *testing.T) {
	var err error
	func() {
		defer func() { err = engineFault(recover()) }()
		var none []int
		none[len(none)]++
	}()
	const want = `^WebAssembly engine panicked: runtime error: index out of range \[0\] with length 0 ` +
		`\(at fault_test\.go:13, `
	if !regexp.MustCompile(want).MatchString(err.Error()) {
		t.Error(err)
	}
}
