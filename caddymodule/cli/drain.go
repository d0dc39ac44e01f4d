package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
)

func drainCommand() *cobra.Command {
	var (
		over                 string
		address              *string
		rate                 float64
		wait, cancel, status bool
	)
	cmd := &cobra.Command{
		Use:   "drain [--duration <time>] [--rate <clients a second>] [--wait] | --status | --cancel",
		Short: "Send all clients to other nodes, one after another",
		Long: "Closes all websockets at a set pace with code 1012 and refuses new ones, so that a load balancer sends clients that connect again\n" +
			"to other nodes. Most pages of AWX up to 24.6.1 do not connect again: they show no changes until the user navigates.\n" +
			"Without a pace, that of the configuration is taken. It lasts until it is cancelled or the relay is restarted.",
		Example: "  caddy edgerelay drain --duration 60s --wait && systemctl stop edgerelay",
		Args:    cobra.NoArgs,
		RunE: running(func([]string) error {
			method, body := http.MethodPost, []byte(nil)
			switch {
			case cancel && (status || wait), status && wait:
				return errors.New("use one of --cancel, --status and --wait")
			case cancel:
				method = http.MethodDelete
			case status:
				method = http.MethodGet
			case over != "" || rate != 0:
				var err error
				if body, err = drainBody(over, rate); err != nil {
					return err
				}
			}
			s, text, err := askDrain(*address, method, body)
			for last := time.Now(); err == nil && wait && s.State != "drained" && s.State != "off"; {
				if time.Since(last) >= time.Second {
					last = time.Now()
					fmt.Fprintf(os.Stderr, "%d of %d clients told, %d open\n", s.Evicted, s.Clients, s.Open)
				}
				time.Sleep(100 * time.Millisecond)
				s, text, err = askDrain(*address, http.MethodGet, nil)
			}
			if err != nil {
				return err
			}
			if wait && s.State == "off" {
				return errors.New("the drain was cancelled")
			}
			_, err = os.Stdout.Write(text)
			return err
		}),
	}
	cmd.Flags().StringVarP(&over, "duration", "d", "", "spread the goodbyes over this time")
	cmd.Flags().Float64VarP(&rate, "rate", "r", 0, "at most so many goodbyes a second")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait until all clients have gone")
	cmd.Flags().BoolVar(&status, "status", false, "tell how far the drain is")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "let clients in again; who has not been told yet stays")
	address = adminAddress(cmd)
	return cmd
}

// drainBody is the body of a request for a drain.
func drainBody(over string, rate float64) ([]byte, error) {
	d := node.Drain{Rate: rate}
	if over != "" {
		t, err := settings.ParseDuration(over)
		if err != nil {
			return nil, fmt.Errorf("--duration %s: %w", over, err)
		}
		d.Duration = &t
	}
	return json.Marshal(d)
}

// askDrain speaks to /edgerelay/drain.
func askDrain(address, method string, body []byte) (s admin.DrainStatus, text []byte, err error) {
	resp, err := requestAdmin(address, method, "/edgerelay/drain", body)
	if err != nil {
		return s, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err = io.ReadAll(resp.Body); err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, text, err
}
