package guests_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/edgerelay/edgerelay/caddymodule"
	_ "github.com/edgerelay/edgerelay/examples/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/wsclient"
)

// freeAddress returns an address without a listener.
func freeAddress(t *testing.T) string {
	t.Helper()
	return testkit.Loopback(testkit.FreePort(t))
}

// load starts or reloads Caddy with the options of edgerelay.
func load(t *testing.T, site, options string) error {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
	admin off
	persist_config off
	storage file_system %s
	log {
		output discard
	}
	edgerelay {
		%s
	}
}
http://%s {
	edgerelay
}`, t.TempDir(), options, site), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

func bearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

// write sends lines to the channel layer.
func write(t *testing.T, conn net.Conn, lines ...string) {
	t.Helper()
	if _, err := conn.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		t.Fatal(err)
	}
}

// A channel layer and an authenticator outside of edgerelay serve clients, survive a reload, and stop with the
// configuration that names them.
func TestGuestsServeClients(t *testing.T) {
	t.Setenv("ANNS_KEY", "secret")
	site, layer := freeAddress(t), freeAddress(t)
	options := "channel_layer lines " + layer + "\nauth keys {\nann {env.ANNS_KEY} jobs\n}"
	if err := load(t, site, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	address := "ws://" + site + "/websocket/"
	if _, err := wsclient.Dial(ctx, address, bearer("wrong"), nil); !errors.Is(err, wsclient.ErrNotLoggedIn) {
		t.Errorf("a wrong key: %v, want %v", err, wsclient.ErrNotLoggedIn)
	}
	client, err := wsclient.Dial(ctx, address, bearer("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Subscribe(ctx, "inventories-1"); err == nil {
		t.Error("a group of another kind was allowed")
	}
	if got, err := client.Read(ctx); err != nil || !strings.Contains(string(got), `"groups_joined": []`) {
		t.Errorf("after the denial: %s, %v; want a change without groups", got, err)
	}
	if err := client.Subscribe(ctx, "jobs-1"); err != nil {
		t.Fatal(err)
	}
	script, err := net.Dial("tcp", layer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = script.Close() }()
	read := func(want string) {
		t.Helper()
		if got, err := client.Read(ctx); err != nil || string(got) != want {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
	write(t, script, `{"group": "jobs-2", "data": 1}`, "nonsense", `{"group": "no group", "data": 2}`,
		`{"group": "jobs-1", "data": {"n": 3}}`)
	read(`{"n": 3}`)

	// The listener, the client and the script stay connected over a reload with the same address.
	if err := load(t, site, options+"\nlimits {\ngroups_per_connection 7\n}"); err != nil {
		t.Fatal(err)
	}
	write(t, script, `{"group": "jobs-1", "data": {"n": 4}}`)
	read(`{"n": 4}`)

	// After a change of the layer, the address is free again.
	if err := load(t, site, "channel_layer memory\nauth none"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", layer)
	if err != nil {
		t.Fatalf("the closed layer still has the address: %v", err)
	}
	_ = l.Close()
}

func TestGuestsRejectSettings(t *testing.T) {
	for options, want := range map[string]string{
		"channel_layer lines\nauth none":                         "such as 127.0.0.1:9000",
		"channel_layer lines nowhere\nauth none":                 "such as 127.0.0.1:9000",
		"auth keys {\nann\n}":                                    "needs a key",
		"auth keys {\nann {env.EDGERELAY_NO_SUCH_VARIABLE} j\n}": "the key of ann",
	} {
		if err := load(t, freeAddress(t), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", options, err, want)
			_ = caddy.Stop()
		}
	}
}
