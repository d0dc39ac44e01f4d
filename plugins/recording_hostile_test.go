package plugins

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// hostileRequest has credentials in forms that are less usual.
const hostileRequest = `{"id":"%016x","path":"/ws/room/1/","query":"token=aaaaaaaa-first&ticket=aaaaaaaa-first-and-longer",` +
	`"params":{"room":"room_1"},"user":null,"user_key":"","address":"192.0.2.7",` +
	`"headers":{"authorization":"Basic YW5uOnZlcnktc2VjcmV0LWJhc2lj","cookie":"cookie-without-a-name; b=\"quoted-secret-value\""},` +
	`"subprotocols":[]}`

// Secrets are replaced in every line, whatever the function has done with them.
func TestRecordingHidesSecretsElsewhere(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	p.SetServices(Services{Shared: answering{}})
	p.SetPublisher(func(string, *Action) {})
	r := record(t, p, RecordingOptions{})
	c, actions, err := p.Connect(context.Background(), "f", 0xabc, fmt.Appendf(nil, hostileRequest, 0xabc))
	if err != nil {
		t.Fatal(err)
	}
	got := newPage()
	got.Perform(actions)
	c.Open(got)
	got.take(t, len(actions))
	for _, text := range []string{
		"aaaaaaaa-first-and-longer", "ann:very-secret-basic", "very-secret-basic", "cookie-without-a-name", "quoted-secret-value",
	} {
		if err := c.Message(true, fmt.Appendf(nil, `{"do":"remember","text":%q}`, text)); err != nil {
			t.Fatal(err)
		}
		got.take(t, 1)
	}
	// The function has set an alarm with a secret of its client.
	if err := p.Alarm(context.Background(), "f", "turn", []byte("of aaaaaaaa-first-and-longer"), nil); err != nil {
		t.Fatal(err)
	}
	lines := r.lines(t)
	for _, secret := range []string{"aaaaaaaa", "and-longer", "very-secret-basic", "YW5uOnZl", "cookie-without", "quoted-secret"} {
		if strings.Contains(lines, secret) {
			t.Errorf("%s is recorded in\n%s", secret, lines)
		}
	}
}
