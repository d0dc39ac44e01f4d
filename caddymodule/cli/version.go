package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// versions are the versions in this binary.
type versions struct {
	Edgerelay string `json:"edgerelay"`
	Caddy     string `json:"caddy"`
	Go        string `json:"go"`
	Platform  string `json:"platform"`
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the relay, Caddy and Go in this binary",
		Args:  cobra.NoArgs,
		Long: "Shows the versions in this binary. 'caddy edgerelay status' shows the version of a running relay.\n" +
			"'devel' is a build without a release or commit, such as one by xcaddy from a folder.",
		Example: "  caddy edgerelay version\n  caddy edgerelay version --json | jq -r .edgerelay",
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = runE(func(context.Context, []string) error { return writeVersions(os.Stdout, *asJSON) })
	return cmd
}

// readVersions returns the versions in this binary.
func readVersions() versions {
	v := node.Version()
	_, full := caddy.Version()
	return versions{
		Edgerelay: v.Relay, Caddy: cmp.Or(full, "unknown"), Go: cmp.Or(v.Go, runtime.Version()),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// versionText returns the versions as text, for the command and for --version.
func versionText() string {
	v := readVersions()
	return fmt.Sprintf("edgerelay %s\ncaddy     %s\ngo        %s %s\n", v.Edgerelay, v.Caddy, v.Go, v.Platform)
}

// writeVersions writes the versions in this binary.
func writeVersions(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(readVersions())
	}
	_, err := io.WriteString(w, versionText())
	return err
}
