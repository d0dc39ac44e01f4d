package caddymodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func init() {
	caddy.RegisterModule(examinedLayer{})
}

// examinedLayer is a third party's channel layer: it checks its own service, and its broker has a mailbox and ignores
// types of messages.
type examinedLayer struct{}

func (examinedLayer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.channel_layers.third_party", New: func() caddy.Module { return new(examinedLayer) }}
}

func (*examinedLayer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { d.Next(); return nil }

func (*examinedLayer) Place() string { return "examined" }

func (*examinedLayer) Open(*slog.Logger) (relay.Broker, error) {
	return examinedBroker{memory.NewLayer().Broker()}, nil
}

func (*examinedLayer) Apply(relay.Broker) error { return nil }

func (*examinedLayer) Examine(context.Context) []guest.Finding {
	return []guest.Finding{{Check: "spool", Level: guest.Failure, Text: "the spool is full", Remedy: "empty the spool"}}
}

type examinedBroker struct{ relay.Broker }

func (examinedBroker) Peak() int { return 90 }

func (examinedBroker) Capacity() int { return 100 }

func (examinedBroker) IgnoredTypes() []string { return []string{"chat.message"} }

// The doctor asks a layer from another package for its checks, its mailbox and the types that it ignores.
func TestDoctorChecksThirdPartyLayers(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\nchannel_layer third_party", "edgerelay")
	status, body := s.post("/edgerelay/doctor", "")
	var d admin.Diagnosis
	if err := json.Unmarshal([]byte(body), &d); err != nil || status != 200 {
		t.Fatalf("doctor: %d %s", status, body)
	}
	levels := map[string]guest.Level{}
	for _, f := range d.Findings {
		levels[f.Check] = f.Level
	}
	for check, want := range map[string]guest.Level{
		"spool": guest.Failure, "capacity peak": guest.Warning, "message types": guest.Warning, "round trip": guest.OK,
	} {
		if levels[check] != want {
			t.Errorf("%s: level %q, want %q; %s", check, levels[check], want, body)
		}
	}
}
