package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// confirmation is the question of a command that changes what clients of a running relay get, or disconnects them.
// Without a terminal no command asks, so that scripts and services never wait.
type confirmation struct{ yes bool }

// asksOnTerminal is a sentence for helps.
const asksOnTerminal = "On a terminal, the command shows what runs now and asks before it acts."

// add adds the flag --yes to a command.
func (c *confirmation) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask on a terminal")
}

// asks reports whether the command asks before it acts.
func (c *confirmation) asks() bool { return !c.yes && onTerminal() }

// onTerminal reports whether a person reads the output and can answer. Tests replace it.
var onTerminal = func() bool {
	return isTerminal(os.Stdin) && isTerminal(os.Stdout)
}

// isTerminal reports whether a file is a terminal. Tests replace it.
var isTerminal = func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// forPeople returns the writer of a question and its description: stdout, or stderr if stdout has JSON.
func forPeople(asJSON bool) io.Writer {
	if asJSON {
		return os.Stderr
	}
	return os.Stdout
}

// confirm asks a question, and returns an error with the text otherwise unless the answer is yes.
func confirm(in io.Reader, w io.Writer, question, otherwise string) error {
	fmt.Fprint(w, question+" [y/N] ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && answer == "" {
		return errors.New(otherwise)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New(otherwise)
}
