package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

// supportOptions are the flags of the command support-bundle.
type supportOptions struct {
	address, output string
	// config is the file of a configuration whose relay does not run, for adapter; empty for a running relay.
	config, adapter string
	asJSON          bool
}

func supportBundleCommand() *cobra.Command {
	var o supportOptions
	cmd := &cobra.Command{
		Use: "support-bundle", Short: "Collect what a bug report needs, without secrets", Args: cobra.NoArgs,
		Long: "Writes a .tar.gz with the configuration, metrics, the end of the log, the findings of the doctor, state,\n" +
			"groups, plugins, peers, versions, limits and goroutines of a running relay, and a README that explains each\n" +
			"file.\n\n" +
			"The configuration has no secrets: only settings that are known to be harmless are shown, and placeholders.\n" +
			"Every file is searched for the values of secrets, also of placeholders, and left out if it contains one.\n" +
			"The README names what was left out. Names of groups may contain ids of your users or objects: read the\n" +
			"archive before you pass it on. Its mode is 0600.\n\n" +
			"If the relay does not run, --config names its configuration. The archive then has that configuration, the\n" +
			"findings of 'doctor --config' and the versions. Run it as the relay's user and with the relay's environment.",
		Example: "  caddy edgerelay support-bundle\n  caddy edgerelay support-bundle --output /tmp/relay.tar.gz\n" +
			"  caddy edgerelay support-bundle --config /etc/caddy/Caddyfile",
	}
	address := addAddressFlag(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "",
		"file to write, which must not exist, or - for the standard output; "+
			"default: edgerelay-support-<host>-<time>.tar.gz")
	_ = cmd.Flags().SetAnnotation("output", writesStdout, []string{}) // fails for an unknown flag only
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "the configuration of a relay that does not run")
	cmd.Flags().StringVarP(&o.adapter, "adapter", "a", "",
		"adapter of the configuration; a file named Caddyfile needs none")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, jsonUsage)
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		o.address = *address
		return o.run(ctx, os.Stdout, os.Stderr)
	})
	return cmd
}

// bundleReport is the JSON of the command support-bundle.
type bundleReport struct {
	File  string   `json:"file"`
	Bytes int64    `json:"bytes"`
	Files []string `json:"files"`
	// LeftOut are the files that are missing, with the reason.
	LeftOut []leftOut `json:"left_out"`
}

// leftOut is a file that a bundle lacks.
type leftOut struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// run collects the files, removes values that may hold secrets, and writes the archive. Progress goes to log.
func (o *supportOptions) run(ctx context.Context, w, log io.Writer) error {
	toStdout := o.output == "-"
	switch {
	case toStdout && o.asJSON:
		return usageErrorf("--json and --output - exclude each other: both write to the standard output; name a file")
	case toStdout && isTerminal(os.Stdout):
		return usageErrorf("--output -: the archive is not for a terminal; redirect the standard output, or name a file")
	}
	if o.output == "" {
		o.output = defaultBundle(time.Now())
	}
	// Collecting takes seconds. [bundle.write] finds a file that another process creates meanwhile.
	if _, err := os.Lstat(o.output); err == nil && !toStdout {
		return bundleExists(o.output)
	}
	b := &bundle{address: o.address, log: log, made: time.Now()}
	collect, find := b.collect, b.findRemotely
	if o.config != "" {
		collect, find = func(ctx context.Context) error { return b.collectStopped(ctx, o.config, o.adapter) }, findLocally
	}
	if err := collect(ctx); err != nil {
		return err
	}
	b.replaceKnown()
	if err := b.search(ctx, find); err != nil {
		return err
	}
	if toStdout {
		if err := b.archive(w); err != nil {
			return unwritable("bundle", "standard output", err)
		}
		return describeBundle(log, "bundle written to the standard output: %d files\n", b, len(b.names()))
	}
	size, err := b.write(o.output)
	if err != nil {
		return err
	}
	report := bundleReport{File: o.output, Bytes: size, Files: b.names(), LeftOut: b.leftOut}
	if o.asJSON {
		return printJSON(w, report)
	}
	return describeBundle(w, "%s: %s, %d files, mode 0600\n", b, report.File, humanize.IBytes(uint64(size)),
		len(report.Files))
}

// describeBundle writes a headline, what a bundle lacks, and the last advice.
func describeBundle(w io.Writer, headline string, b *bundle, args ...any) error {
	fmt.Fprintf(w, headline, args...)
	for _, l := range b.leftOut {
		fmt.Fprintf(w, "left out: %s: %s\n", l.File, printable(l.Reason))
	}
	_, err := fmt.Fprintln(w, "names of groups may contain ids; read the files before you pass them on")
	return err
}

// defaultBundle returns the default name of an archive.
func defaultBundle(now time.Time) string {
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	host = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, host)
	return fmt.Sprintf("edgerelay-support-%s-%s.tar.gz", host, now.UTC().Format("20060102T150405Z"))
}
