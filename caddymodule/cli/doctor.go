package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var config, adapter string
	var browser browserFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check every stage of an event's path",
		Args:  cobra.NoArgs,
		Long: "Checks Redis, its settings and the user's rights, deleted memberships, capacity, other prefixes,\n" +
			"AWX's API and cookies, the connection to AWX's uWSGI, Caddy's admin API and trusted proxies, secret,\n" +
			"clock, certificate and path of each peer, and file descriptors. Then sends an event through the channel layer to a\n" +
			"websocket and back. Each finding is a line, with a remedy if there is a fault. The running relay\n" +
			"makes the checks, from its own network and with its own rights. With --config the relay need not\n" +
			"run: the command checks the hosts in the Caddyfile, and omits checks of the process. With --url an\n" +
			"event also takes a browser's path to that URL, through all proxies in front of the relay. The exit\n" +
			"code is 0 without a failure, and also with warnings; 1 with a failure; 3 if the relay does not respond.\n\n" +
			"With --channels the relay listens instead, for the time of --for, to the groups that the site uses, and\n" +
			"says which types of events have no rule in a route.",
		Example: "  caddy edgerelay doctor\n  caddy edgerelay doctor --channels --for 1m\n" +
			"  caddy edgerelay doctor --config /etc/caddy/Caddyfile\n" +
			"  caddy edgerelay doctor --url wss://awx.example.com/websocket/ " +
			"--header \"Cookie: awx_sessionid=…; csrftoken=…\"",
	}
	address := addAddressFlag(cmd)
	cmd.Flags().StringVarP(&config, "config", "c", "", "the configuration to check; the relay need not run")
	cmd.Flags().StringVarP(&adapter, "adapter", "a", "",
		"adapter of the configuration; a file named Caddyfile needs none")
	browser.register(cmd, "URL of the websocket for browsers")
	listens := cmd.Flags().Bool("channels", false,
		"listen to the groups of the site, and compare the events with the routes")
	span := cmd.Flags().Duration("for", 30*time.Second, "how long to listen with --channels")
	asJSON := addJSONFlag(cmd)
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		dialer, err := browser.dialer()
		if err != nil {
			return err
		}
		if *listens {
			d, err := requestDiagnosis(ctx, *address, "?channels="+span.String())
			if err != nil {
				return err
			}
			return report(os.Stdout, d, *asJSON)
		}
		var d admin.Diagnosis
		if config != "" {
			d.Findings, err = checkConfig(ctx, config, adapter)
		} else {
			d, err = requestDiagnosis(ctx, *address, "")
			if err == nil {
				err = checkSite(ctx, *address, &d)
			}
		}
		if err != nil {
			return err
		}
		if dialer.url != "" {
			d.Findings = append(d.Findings, frontDoor(ctx, *address, dialer))
		}
		return report(os.Stdout, d, *asJSON)
	})
	return cmd
}

// requestDiagnosis lets the running relay make the checks.
func requestDiagnosis(ctx context.Context, address, query string) (d admin.Diagnosis, err error) {
	resp, err := requestAdmin(ctx, address, http.MethodPost, "/edgerelay/doctor"+query, nil)
	if exitCode(err) == exitUnreachable {
		return d, fmt.Errorf("%w; without a running relay, use --config", err)
	}
	if err != nil {
		return d, err
	}
	defer func() { _ = resp.Body.Close() }()
	return d, decodeResponse(address, "/edgerelay/doctor", resp.Body, &d)
}

// checkSite checks the surroundings of the relay in the current configuration. The relay itself knows only its own
// part.
func checkSite(ctx context.Context, address string, d *admin.Diagnosis) error {
	var config json.RawMessage
	if err := getAdmin(ctx, address, "/config/", &config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, admin.DiagnosisTimeout)
	defer cancel()
	d.Findings = append(d.Findings, doctor.Site(ctx, config, resolveAdmin(address).address)...)
	return nil
}

// report writes the findings, and returns an error if there is a failure. A warning is none: the relay works.
func report(w io.Writer, d admin.Diagnosis, asJSON bool) error {
	failures := 0
	for _, f := range d.Findings {
		if f.Level == doctor.Failure {
			failures++
		}
	}
	if asJSON {
		if err := json.NewEncoder(w).Encode(d); err != nil {
			return err
		}
	} else {
		for _, f := range d.Findings {
			mark := map[doctor.Level]string{doctor.OK: "ok  ", doctor.Warning: "WARN", doctor.Failure: "FAIL"}[f.Level]
			line := fmt.Sprintf("%s  %-16s  %s", mark, f.Check, f.Text)
			if f.Remedy != "" {
				line += " → " + f.Remedy
			}
			fmt.Fprintln(w, printable(line))
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d of %d findings are failures", failures, len(d.Findings))
	}
	return nil
}

// checkConfig checks a configuration without a running relay. It starts only the channel layer, for the round trip.
func checkConfig(ctx context.Context, file, adapter string) ([]doctor.Finding, error) {
	text, err := loadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	var whole struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	app, found := whole.Apps["edgerelay"]
	if !found {
		return nil, fmt.Errorf("checking %s: the configuration has no edgerelay; "+
			"add an edgerelay block to its global options, or name another file with --config", file)
	}
	loaded, err := provision(app)
	if err != nil {
		return nil, err
	}
	a := loaded.(node.App)
	// A channel layer that cannot be left could not be reached either: the findings say so, with the remedy.
	defer func() { _ = loaded.(caddy.CleanerUpper).Cleanup() }()
	broker, err := a.Config().Layer.Open(a.Config().Log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, admin.DiagnosisTimeout)
	defer cancel()
	if err := a.Node().Hub.SetBroker(ctx, broker); err != nil {
		return nil, err
	}
	list := admin.Diagnose(ctx, a.Config(), a.Node().Hub, nil)
	return append(list, doctor.Site(ctx, text, resolveAdmin("").shown())...), nil
}

// provision provisions the relay's part of a configuration. Other apps may need files that this host lacks, such as
// certificates.
func provision(app json.RawMessage) (any, error) {
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		AppsRaw: caddy.ModuleMap{"edgerelay": app},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}},
		}},
	})
	if err != nil {
		return nil, err
	}
	return ctx.App("edgerelay")
}

// frontDoor sends an event on the path of a browser.
func frontDoor(ctx context.Context, address string, d *dialer) doctor.Finding {
	f := doctor.Finding{Check: "front door", Level: doctor.Failure}
	took, remedy, err := throughFrontDoor(ctx, address, d)
	if err != nil {
		f.Text, f.Remedy = fmt.Sprintf("%s: %v", withoutUser(d.url), err), remedy
		return f
	}
	f.Level, f.Text = doctor.OK, fmt.Sprintf("an event takes %v from the admin API to %s",
		took.Round(10*time.Microsecond), withoutUser(d.url))
	return f
}

// subscribeRemedy is the remedy for a rejected subscription.
const subscribeRemedy = "log in as a user who may subscribe to the group, and see the relay's log"

// frontDoorTimeout bounds the handshake, the subscription and the event together.
const frontDoorTimeout = 15 * time.Second

// throughFrontDoor returns the time from the admin API to a client of the URL. With an error comes the remedy, unless
// the error names one.
func throughFrontDoor(ctx context.Context, address string, d *dialer) (took time.Duration, remedy string, err error) {
	ctx, cancel := context.WithTimeout(ctx, frontDoorTimeout)
	defer cancel()
	c, err := d.dial(ctx)
	if err != nil {
		return 0, dialRemedy(err), dialCause(err)
	}
	defer c.Close()
	group := "edgerelay_doctor-" + rand.Text()
	if err := c.Subscribe(ctx, group); err != nil {
		return 0, subscribeRemedy, err
	}
	began := time.Now()
	body, _ := json.Marshal(map[string]any{"group": group, "data": map[string]any{"edgerelay_doctor": true}})
	resp, err := requestAdmin(ctx, address, http.MethodPost, "/edgerelay/publish", body)
	if err != nil {
		return 0, "", err
	}
	_ = resp.Body.Close()
	if _, err := c.Read(ctx); err != nil {
		remedy = "set --url to a site whose relay has the channel layer of the relay at --address"
		return 0, remedy, fmt.Errorf("the event did not arrive: %w", err)
	}
	return time.Since(began), "", nil
}
