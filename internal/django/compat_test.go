package django

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// compatRoutes are routes whose consumers run under Daphne at the same time, on the same groups.
var compatRoutes = []string{"order", "feed", "camera"}

// TestCompat has Daphne and the relay serve the same groups, with versions of Python, Django, Channels and
// channels_redis: the interpreters in EDGERELAY_COMPAT, separated by spaces, which scripts/compat.sh sets; otherwise
// Debian's. What Python emits reaches the clients of both in the same form, byte for byte, and so does what a client of
// the relay publishes.
func TestCompat(t *testing.T) {
	pythons := strings.Fields(os.Getenv("EDGERELAY_COMPAT"))
	if len(pythons) == 0 {
		pythons = []string{peers.Python}
	}
	var table strings.Builder
	tested := map[string]bool{}
	for _, python := range pythons {
		versions := packageVersions(t, python)
		if tested[versions] { // the newest that this Channels allows is one of the others
			continue
		}
		tested[versions] = true
		passed := t.Run(versions, func(t *testing.T) { compat(t, python) })
		result := "passed"
		if !passed {
			result = "failed"
		}
		fmt.Fprintf(&table, "| %s | %s |\n", versions, result)
	}
	t.Logf("\n| Python | Django | Channels | Daphne | channels_redis | Result |\n|---|---|---|---|---|---|\n%s", table.String())
}

// packageVersions returns the versions of an interpreter and of its packages, as cells of a table.
func packageVersions(t *testing.T, python string) string {
	t.Helper()
	script := `import platform; from importlib.metadata import version as v
print(platform.python_version(), *(v(p) for p in ("django", "channels", "daphne", "channels_redis")), sep=" | ")`
	out, err := exec.Command(python, "-c", script).Output()
	if err != nil {
		t.Fatalf("%s: %v", python, err)
	}
	return strings.TrimSpace(string(out))
}

// pair is one page open on Daphne and on the relay.
type pair struct{ daphne, relay *wstest.Client }

// both opens a path on both sites.
func both(t *testing.T, daphne, relay, path string) pair {
	t.Helper()
	open := func(url string) *wstest.Client {
		c, resp, err := wstest.Dial(t, url+path, http.Header{"Origin": {url}})
		if err != nil {
			t.Fatalf("%s%s: %v %v", url, path, err, resp)
		}
		return c
	}
	return pair{open(daphne), open(relay)}
}

// same expects the same next frame on both sites.
func (p pair) same(t *testing.T, about string) {
	t.Helper()
	want, wantBinary, err := p.daphne.NextMessage(patience)
	if err != nil {
		t.Fatalf("%s: Daphne: %v", about, err)
	}
	got, gotBinary, err := p.relay.NextMessage(patience)
	if err != nil {
		t.Fatalf("%s: the relay: %v; Daphne sent %q", about, err, want)
	}
	if got != want || gotBinary != wantBinary {
		t.Errorf("%s:\nrelay  %q, binary %v\nDaphne %q, binary %v", about, got, gotBinary, want, wantBinary)
	}
}

func compat(t *testing.T, python string) {
	redis := peers.StartRedis(t)
	site := peers.NewDjangoSite(t, pushOnly, redis.URL)
	site.Use(python)
	site.Manage("migrate", "--verbosity", "0")
	daphne, _ := site.StartDaphne()
	chat := peers.NewDjangoSite(t, "examples/django/chat", redis.URL)
	chat.Use(python)
	chatDaphne, _ := chat.StartDaphne()
	relay := peers.StartRelay(t, compatCaddyfile(t, redis.URL)).URL
	emitter := peers.StartLayerIn(t, python, peers.CoreLayer, map[string]any{"hosts": []string{redis.URL}})

	order, feed := both(t, daphne, relay, "/ws/order/1/"), both(t, daphne, relay, "/ws/feed/")
	camera, room := both(t, daphne, relay, "/ws/camera/yard/"), both(t, chatDaphne, relay, "/ws/chat/lobby/")
	for i, value := range []string{
		`"Grüße <&> \"👋\" \u2028\u0000"`, `0`, `-1`, `9223372036854775807`, `18446744073709551615`, `1.5`, `1e16`, `1e-7`,
		`0.1`, `-0.0`, `2.0`, `1e300`, `None`, `True`, `False`, `""`, `[]`, `{}`, `{"a": [1, {"b": None, "c": [2.0]}], "": "x"}`,
		`"` + strings.Repeat("long ", 20_000) + `"`,
	} {
		message := fmt.Sprintf(`"id": %d, "state": %s, "total": [%s]`, i, value, value)
		emitter.SendLiteral("order_1", `{"type": "order.changed", `+message+`}`)
		order.same(t, value)
		emitter.SendLiteral("feed", `{"type": "feed.item", `+message+`}`)
		feed.same(t, value)
	}
	// Daphne sends no frame for empty bytes.
	for _, bytes := range []string{`b"\x00"`, `b"\xff\xd8\xff jpeg"`} {
		emitter.SendLiteral("camera.yard", `{"type": "camera.frame", "jpeg": `+bytes+`}`)
		camera.same(t, "bytes "+bytes)
	}

	for i, value := range []string{`"Grüße \"👋\""`, `17`, `1.50`, `1e3`, `true`, `null`, `["a", {"b":1}]`, `{}`, `9223372036854775807`} {
		sender := []*wstest.Client{room.relay, room.daphne}[i%2]
		if err := sender.Send(`{"message": ` + value + `}`); err != nil {
			t.Fatal(err)
		}
		room.same(t, "a client's "+value)
	}
	upload, _, err := wstest.Dial(t, relay+"/ws/upload/yard/", http.Header{"Origin": {relay}})
	if err != nil {
		t.Fatal(err)
	}
	for _, bytes := range []string{"\x00", "\xff\xd8 jpeg \x00"} {
		if err := upload.SendBinary([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		camera.same(t, "a client's bytes")
	}
}

// compatCaddyfile returns routes for the consumers of compatRoutes, a chat, and uploads.
func compatCaddyfile(t *testing.T, redisURL string) string {
	t.Helper()
	var routes strings.Builder
	for _, name := range compatRoutes {
		text, err := os.ReadFile(filepath.Join("testdata", "pushonly", "routes", name))
		if err != nil {
			t.Fatal(err)
		}
		routes.Write(text)
	}
	return `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis ` + redisURL + `
		auth none
	}
}
{$SITE} {
	edgerelay {
		` + routes.String() + `
		route /ws/chat/{room}/ {
			groups   chat_{room}
			on       chat.message json message
			messages publish chat.message json message
		}
		route /ws/upload/{camera}/ {
			groups   camera.{camera}
			on       camera.frame ignore
			messages publish camera.frame binary jpeg
		}
	}
}
`
}
