package doctor

import (
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func TestCompression(t *testing.T) {
	agreed := hub.CompressionStats{Sessions: 3}
	saved := agreed
	saved.Forms[relay.Chained] = hub.FormStats{Deliveries: 10, Before: 2000, After: 220}
	for _, c := range []struct {
		enabled  bool
		sessions int
		stats    hub.CompressionStats
		level    Level
		text     string
	}{
		{false, 100, hub.CompressionStats{}, OK, "off"},
		{true, enoughClients, hub.CompressionStats{}, Warning, "none of 20 WebSockets"},
		{true, enoughClients - 1, hub.CompressionStats{}, OK, "0 of 19"},
		{true, 4, agreed, OK, "no event"},
		{true, 4, saved, OK, "3 of 4 WebSockets have agreed; compressed events took 11 %"},
	} {
		if f := Compression(c.enabled, c.sessions, c.stats); f.Level != c.level || !strings.Contains(f.Text, c.text) {
			t.Errorf("got %v, want %v with %q", f, c.level, c.text)
		}
	}
}
