package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

// drainOptions are the flags of the command drain.
type drainOptions struct {
	address              *string
	duration             string
	rate                 float64
	wait, cancel, status bool
	asJSON               *bool
	confirmation
}

func drainCommand() *cobra.Command {
	var o drainOptions
	cmd := &cobra.Command{
		Use:   "drain [--duration <time>] [--rate <clients a second>] [--wait] | --status | --cancel",
		Short: "Evict all clients at a set pace, so that they move to other nodes",
		Long: "Closes all websockets at a set pace with code 1012 and rejects new ones, so that a load balancer\n" +
			"sends clients that reconnect to other nodes. Most pages of AWX up to 24.6.1 do not reconnect: they\n" +
			"show no changes until the user navigates. The default is the pace in the configuration, else 30s;\n" +
			"--duration 0s evicts all clients at once. The drain lasts until it is canceled or the relay restarts.\n\n" +
			"On a terminal, the command shows the number of clients and asks before it evicts them.",
		Example: "  caddy edgerelay drain -y --duration 60s --wait && systemctl stop edgerelay\n" +
			"  caddy edgerelay drain --status --json | jq .open\n  caddy edgerelay drain --cancel",
		Args: cobra.NoArgs,
		RunE: runE(func(ctx context.Context, _ []string) error { return o.run(ctx) }),
	}
	cmd.Flags().StringVar(&o.duration, "duration", "", "spread the evictions over this time; 0s: all at once")
	cmd.Flags().Float64Var(&o.rate, "rate", 0,
		"maximum of evictions a second; 0: no maximum, at the pace of --duration or the configuration")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until all clients have disconnected")
	cmd.Flags().BoolVar(&o.status, "status", false, "show the progress of the drain")
	cmd.Flags().BoolVar(&o.cancel, "cancel", false, "accept clients again; clients not yet evicted stay connected")
	o.address, o.asJSON = addAddressFlag(cmd), addJSONFlag(cmd)
	o.confirmation.add(cmd)
	return cmd
}

// run sends the request and, with --wait, polls until the drain has ended.
func (o *drainOptions) run(ctx context.Context) error {
	method, body, err := o.request()
	if err != nil {
		return err
	}
	if method == http.MethodPost && o.asks() {
		if err := o.confirm(ctx); err != nil {
			return err
		}
	}
	s, text, err := requestDrain(ctx, *o.address, method, body)
	if err == nil && o.wait {
		s, text, err = o.await(ctx, s, text)
	}
	if err != nil {
		return err
	}
	if o.wait && s.State == "off" {
		return errors.New("the drain was canceled")
	}
	if *o.asJSON {
		return printRaw(text)
	}
	return writeDrain(os.Stdout, &s)
}

// confirm asks before clients are evicted. An idle node has none to ask about.
func (o *drainOptions) confirm(ctx context.Context) error {
	s, _, err := requestDrain(ctx, *o.address, http.MethodGet, nil)
	if err != nil || s.Open == 0 {
		return err
	}
	question := fmt.Sprintf("Evict %s, and reject new ones?", count(s.Open, "client"))
	return confirm(os.Stdin, forPeople(*o.asJSON), question, "not drained")
}

// writeDrain writes the progress of a drain in a line.
func writeDrain(w io.Writer, s *admin.DrainStatus) error {
	if s.State == "off" {
		_, err := fmt.Fprintln(w, "off: the node accepts clients")
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s of %s clients evicted, %s still connected; new clients are rejected\n", s.State,
		comma(s.Evicted), comma(s.Clients), comma(s.Open))
	return err
}

// request returns method and body of the request that the flags describe.
func (o *drainOptions) request() (method string, body []byte, err error) {
	switch {
	case o.cancel && (o.status || o.wait), o.status && o.wait:
		return "", nil, usageErrorf("use one of --cancel, --status and --wait")
	case o.cancel:
		return http.MethodDelete, nil, nil
	case o.status:
		return http.MethodGet, nil, nil
	case o.duration != "" || o.rate != 0:
		body, err = drainBody(o.duration, o.rate)
	}
	return http.MethodPost, body, err
}

// await polls until the drain has ended or is canceled, and prints the progress once a second.
func (o *drainOptions) await(
	ctx context.Context, s admin.DrainStatus, text []byte,
) (admin.DrainStatus, []byte, error) {
	for last := time.Now(); s.State != "drained" && s.State != "off"; {
		if time.Since(last) >= time.Second {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d clients evicted, %d still connected\n", s.Evicted, s.Clients, s.Open)
		}
		select {
		case <-ctx.Done():
			return s, text, ctx.Err()
		case <-time.After(drainPollInterval):
		}
		var err error
		if s, text, err = requestDrain(ctx, *o.address, http.MethodGet, nil); err != nil {
			return s, text, err
		}
	}
	return s, text, nil
}

// drainPollInterval is the time between two requests for the progress.
const drainPollInterval = 100 * time.Millisecond

// drainBody returns the body of a request for a drain.
func drainBody(duration string, rate float64) ([]byte, error) {
	if !(rate >= 0 && rate <= math.MaxInt32) {
		return nil, usageErrorf("--rate: invalid value %v; use a number of clients a second, or 0 for no maximum", rate)
	}
	d := node.Drain{Rate: rate}
	if duration != "" {
		t, err := settings.ParseDuration(duration)
		if err != nil {
			return nil, usageErrorf("--duration %s: %w", duration, err)
		}
		d.Duration = &t
	}
	return json.Marshal(d)
}

// requestDrain sends a request to /edgerelay/drain. It returns the response decoded, and as text.
func requestDrain(ctx context.Context, address, method string, body []byte) (s admin.DrainStatus, text []byte, err error) {
	resp, err := requestAdmin(ctx, address, method, "/edgerelay/drain", body)
	if err != nil {
		return s, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var raw json.RawMessage
	if err = decodeResponse(address, "/edgerelay/drain", resp.Body, &raw); err != nil {
		return s, nil, err
	}
	if err = json.Unmarshal(raw, &s); err != nil {
		err = mismatch("/edgerelay/drain", err)
	}
	return s, raw, err
}
