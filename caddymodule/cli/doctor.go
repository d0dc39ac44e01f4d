package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var config, adapter string
	var browser browserFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong on the way of an event", Args: cobra.NoArgs,
		Long: "Looks at everything that an event passes: Redis, its settings and what the user may do there, memberships that somebody deletes, capacity, other\n" +
			"prefixes, AWX's API and cookies, the way to AWX's uWSGI, Caddy's admin API and trusted proxies, the secret and the clock of each peer, file\n" +
			"descriptors; and sends an event through the channel layer to a\n" +
			"websocket and back. It says in one line each what is wrong, and what mends it. The running relay does the looking, so it sees what that sees. With\n" +
			"--config the relay need not run: the command looks at what the Caddyfile names, as far as that goes without it.\n" +
			"With --url an event also takes the way of a browser: to that address, through whatever stands in front of the relay.\n" +
			"The exit code is 0 if all is well, else 1.",
		Example: "  caddy edgerelay doctor\n  caddy edgerelay doctor --config /etc/caddy/Caddyfile\n" +
			"  caddy edgerelay doctor --url wss://awx.example.com/websocket/ --header \"Cookie: awx_sessionid=…; csrftoken=…\"",
	}
	address := adminAddress(cmd)
	cmd.Flags().StringVarP(&config, "config", "c", "", "a configuration to look at; the relay need not run")
	cmd.Flags().StringVarP(&adapter, "adapter", "a", "", "the configuration's adapter; a Caddyfile is known by its name")
	browser.register(cmd, "the websocket's address as browsers know it")
	asJSON := cmd.Flags().Bool("json", false, "the findings as JSON")
	cmd.RunE = running(func([]string) error {
		dialer, err := browser.dialer()
		if err != nil {
			return err
		}
		var d admin.Diagnosis
		if config != "" {
			d.Findings, err = examineConfig(config, adapter)
		} else {
			d, err = askDoctor(*address)
			if err == nil {
				err = examineSite(*address, &d)
			}
		}
		if err != nil {
			return err
		}
		if dialer.url != "" {
			d.Findings = append(d.Findings, frontDoor(*address, dialer))
		}
		return report(os.Stdout, d, *asJSON)
	})
	return cmd
}

func askDoctor(address string) (d admin.Diagnosis, err error) {
	resp, err := requestAdmin(address, http.MethodPost, "/edgerelay/doctor", nil)
	if err != nil {
		return d, fmt.Errorf("%w; --config examines a configuration whose relay does not run", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return d, json.NewDecoder(resp.Body).Decode(&d)
}

// examineSite looks at the configuration in force around the relay, which the relay itself does not see.
func examineSite(address string, d *admin.Diagnosis) error {
	var config json.RawMessage
	if err := getAdmin(address, "/config/", &config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), admin.DiagnosisTimeout)
	defer cancel()
	d.Findings = append(d.Findings, doctor.Site(ctx, config, lookForAdmin(address).address)...)
	return nil
}

// report writes the findings, and returns an error if not all is well.
func report(w io.Writer, d admin.Diagnosis, asJSON bool) error {
	wrong := 0
	for _, f := range d.Findings {
		if f.Level != doctor.OK {
			wrong++
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
	if wrong > 0 {
		return fmt.Errorf("%d of %d checks found something", wrong, len(d.Findings))
	}
	return nil
}

// examineConfig looks at what a configuration names. Nothing of it is started but, for the round trip, its channel layer.
func examineConfig(file, adapter string) (list []doctor.Finding, err error) {
	text, _, _, err := caddycmd.LoadConfig(file, adapter)
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
		return nil, fmt.Errorf("%s has no edgerelay", file)
	}
	// Only the relay's part: the rest may need what is not here, such as certificates.
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"edgerelay": app}, Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}},
	}}})
	if err != nil {
		return nil, err
	}
	loaded, err := ctx.App("edgerelay")
	if err != nil {
		return nil, err
	}
	a := loaded.(node.App)
	defer func() { err = errors.Join(err, loaded.(caddy.CleanerUpper).Cleanup()) }()
	broker, err := a.Config().Layer.Open(a.Config().Log)
	if err != nil {
		return nil, err
	}
	looking, cancel := context.WithTimeout(context.Background(), admin.DiagnosisTimeout)
	defer cancel()
	if err := a.Node().Hub.SetBroker(looking, broker); err != nil {
		return nil, err
	}
	list = admin.Diagnose(looking, a.Config(), a.Node().Hub, nil)
	return append(list, doctor.Site(looking, text, lookForAdmin("").address)...), nil
}

// frontDoor sends an event the way of a browser.
func frontDoor(address string, d *dialer) doctor.Finding {
	f := doctor.Finding{Check: "front door", Level: doctor.Failure}
	took, err := throughFrontDoor(address, d)
	if err != nil {
		f.Text = fmt.Sprintf("%s: %v", d.url, err)
		f.Remedy = dialRemedy(err)
		return f
	}
	f.Level, f.Text = doctor.OK, fmt.Sprintf("an event takes %v from the admin API through %s",
		took.Round(10*time.Microsecond), d.url)
	return f
}

func throughFrontDoor(address string, d *dialer) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	c, err := d.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	group := "edgerelay_doctor-" + rand.Text()
	if err := c.Subscribe(ctx, group); err != nil {
		return 0, err
	}
	began := time.Now()
	body, _ := json.Marshal(map[string]any{"group": group, "data": map[string]any{"edgerelay_doctor": true}})
	resp, err := requestAdmin(address, http.MethodPost, "/edgerelay/publish", body)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	if _, err := c.Read(ctx); err != nil {
		return 0, fmt.Errorf("the event did not arrive: %w", err)
	}
	return time.Since(began), nil
}
