package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes of all commands. Caddy itself uses 1 for each error of its own commands.
const (
	// exitFailed: the command has failed, or has found a fault: an unhealthy node, a lost delivery, a wrong sample.
	exitFailed = 1
	// exitUsage: the command line is wrong, and nothing has happened.
	exitUsage = 2
	// exitUnreachable: the admin API has not responded.
	exitUnreachable = 3
)

// codedError is an error with an exit code other than [exitFailed].
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// usageErrorf returns an error of the command line.
func usageErrorf(format string, args ...any) error {
	return &codedError{fmt.Errorf(format, args...), exitUsage}
}

// exitCode returns the exit code of an error.
func exitCode(err error) int {
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	// The relay has checked values of the command line that the command does not check.
	var answer *adminError
	if errors.As(err, &answer) && answer.status == http.StatusBadRequest {
		return exitUsage
	}
	return exitFailed
}

// runE converts run to the RunE of a command. All requests of a command end with its context.
func runE(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error { return fail(cmd, run(cmd.Context(), args)) }
}

// fail prints an error once, on a line of its own, and returns an error that makes Caddy exit with the error's code.
// nil is a success. The usage is not printed: the line names the remedy.
func fail(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	line := errorLine(err)
	if cmd.Root().Name() == product {
		line = withoutCaddy(line)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "error:", line)
	code := exitCode(err)
	if code == exitFailed {
		return err
	}
	// Caddy's type for other codes is not exported, but its adapter for functions returns it.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// errorLine returns the text of an error in one line. Errors of several parts, and output of other programs, have
// several.
func errorLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return printable(strings.Join(lines, "; "))
}

// checkArguments makes a command report a wrong number of arguments, missing flags, and values that a flag does not
// accept, in one line.
func checkArguments(cmd *cobra.Command) {
	validate := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if validate != nil && validate(cmd, args) != nil {
			return fail(cmd, usageErrorf("%s; usage: %s", describeCount(args, argumentNames(cmd.Use)), usageLine(cmd)))
		}
		if i := slices.Index(args, ""); i >= 0 {
			return fail(cmd, usageErrorf("%s is empty; usage: %s", describeArgument(cmd, i), usageLine(cmd)))
		}
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return fail(cmd, usageErrorf("%w; usage: %s", err, usageLine(cmd)))
		}
		if err := checkAllowed(cmd); err != nil {
			return fail(cmd, err)
		}
		return nil
	}
}

// allowedValues is the annotation of a flag with the values that it accepts.
const allowedValues = "edgerelay_allowed"

// allow limits the values of a flag. Another value is an error of the command line, before anything happens.
func allow(cmd *cobra.Command, name string, values ...string) {
	_ = cmd.Flags().SetAnnotation(name, allowedValues, values) // fails for an unknown flag only
}

// mayBeEmpty are the flags with a meaning for an empty value: no reason, or no grant, group or pattern. Any other flag
// rejects an empty value, such as that of an unset variable of a script: it would select more than was meant, guard
// nothing, or stand for the default. publish describes its own data.
var mayBeEmpty = []string{"data", "grant", "join", "message", "publish", "reason"}

// isEmpty reports whether a flag has an empty value, or a list with one.
func isEmpty(f *pflag.Flag) bool {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values := list.GetSlice()
		return len(values) == 0 || slices.Contains(values, "")
	}
	return f.Value.String() == ""
}

// writesStdout is the annotation of a flag that names an output file and takes - for the standard output.
const writesStdout = "edgerelay_stdout"

// checkAllowed returns an error if a flag has a value that it does not accept.
func checkAllowed(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		what := "name one"
		if f.Name == "output" {
			what = "name a file"
		}
		switch {
		case err != nil:
		case isEmpty(f) && !slices.Contains(mayBeEmpty, f.Name):
			err = usageErrorf("--%s: empty value; %s, or leave the flag out", f.Name, what)
		case f.Value.String() == "-" && (f.Name == "output" || f.Name == "record") && f.Annotations[writesStdout] == nil:
			err = usageErrorf("--%s: this command does not write to the standard output; name a file", f.Name)
		}
		allowed, limited := f.Annotations[allowedValues]
		if err == nil && limited && !slices.Contains(allowed, f.Value.String()) {
			err = usageErrorf("--%s: invalid value %q; use %s", f.Name, f.Value, oneOf(allowed))
		}
	})
	return err
}

// oneOf joins the values of a choice.
func oneOf(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// describeCount describes a wrong number of arguments, by the names of the arguments in the usage.
func describeCount(args, names []string) string {
	if len(args) < len(names) {
		missing := make([]string, 0, len(names))
		for _, name := range names[len(args):] {
			missing = append(missing, "<"+strings.TrimSuffix(name, "...")+">")
		}
		return "missing " + strings.Join(missing, " and ")
	}
	if len(args) == len(names) {
		return "wrong arguments"
	}
	return fmt.Sprintf("unexpected argument %q", args[len(names)])
}

// describeArgument returns the name of an argument in the usage.
func describeArgument(cmd *cobra.Command, i int) string {
	names := argumentNames(cmd.Use)
	if len(names) == 0 {
		return "an argument"
	}
	return "<" + strings.TrimSuffix(names[min(i, len(names)-1)], "...") + ">"
}

// usageLine returns the usage of a command in a line.
func usageLine(cmd *cobra.Command) string {
	return strings.TrimSuffix(cmd.UseLine(), " [flags]")
}

// describeFlagError returns the error of a flag with a remedy.
func describeFlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var empty *pflag.ValueRequiredError
	help := fmt.Sprintf("'%s --help' lists the flags", cmd.CommandPath())
	switch {
	case errors.As(err, &unknown):
		if shorthands := unknown.GetSpecifiedShortnames(); shorthands != "" {
			return usageErrorf("unknown flag -%s; %s", shorthands, help)
		}
		name := unknown.GetSpecifiedName()
		if similar := similarFlags(cmd, name); len(similar) > 0 {
			help = "did you mean --" + strings.Join(similar, " or --") + "?"
		}
		return usageErrorf("unknown flag --%s; %s", name, help)
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		return usageErrorf("--%s: invalid value %q; use %s", f.Name, invalid.GetValue(), describeType(f.Value.Type()))
	case errors.As(err, &empty):
		return usageErrorf("--%s: no value; use %s", empty.GetFlag().Name, describeType(empty.GetFlag().Value.Type()))
	}
	return usageErrorf("%w; %s", err, help)
}

// similarFlags returns the flags of a command with a name like the given one. It uses cobra's own measure, which is
// exported for commands only.
func similarFlags(cmd *cobra.Command, name string) []string {
	probe := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			probe.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	return probe.SuggestionsFor(name)
}

// describeType describes the values of a flag.
func describeType(flagType string) string {
	switch flagType {
	case "bool":
		return "true or false"
	case "duration":
		return "a duration such as 30s or 5m"
	case "int", "int64", "uint", "uint64", "uint32":
		return "a whole number"
	case "uintSlice":
		return "whole numbers, separated by commas"
	case "float64":
		return "a number"
	}
	return "a text"
}
