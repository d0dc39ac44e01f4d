package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// The command that health checks of containers run: it fails while events cannot reach the node, and with --live only
// when no process answers.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t,
		"{\n\tadmin {$ADMIN}\n\tedgerelay {\n\t\tchannel_layer redis "+redis.URL+"\n\t\tauth none\n\t}\n}\n{$SITE} {\n\tedgerelay\n}\n")
	health := func(more ...string) (string, error) {
		out, err := r.Command(append([]string{
			"edgerelay", "health", "--address",
			strings.TrimPrefix(r.Admin, "http://"),
		}, more...)...).CombinedOutput()
		return string(out), err
	}
	testkit.Eventually(t, "health is well", func() error {
		_, err := health()
		return err
	})
	if out, _ := health(); !strings.Contains(out, `"status":"ok"`) {
		t.Errorf("health says %s", out)
	}
	redis.Kill()
	testkit.Eventually(t, "health fails without Redis", func() error {
		if out, err := health(); err == nil {
			return errors.New("it is well: " + out)
		}
		return nil
	})
	if out, err := health("--live"); err != nil {
		t.Errorf("health --live without Redis: %v\n%s", err, out)
	}
	r.Stop(t, 20*time.Second)
	if out, err := health("--live"); err == nil {
		t.Errorf("health --live of a relay that has stopped: %s", out)
	}
}
