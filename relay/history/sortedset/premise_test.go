package sortedset_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/history/sortedset"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

// The premise of positions: channels_redis gives an event one score and one text in the mailboxes of all receivers on a
// host. EDGERELAY_PYTHONS names further interpreters with other versions, separated by colons; make compat sets it.
func TestOneScoreForAllReceivers(t *testing.T) {
	interpreters := []string{peers.Python}
	if more := os.Getenv("EDGERELAY_PYTHONS"); more != "" {
		interpreters = append(interpreters, strings.Split(more, ":")...)
	}
	for _, interpreter := range interpreters {
		name := filepath.Base(filepath.Dir(filepath.Dir(interpreter)))
		t.Run(name, func(t *testing.T) {
			for serializer, keys := range map[string][]string{"msgpack": nil, "msgpack encrypted": {"secret"}} {
				t.Run(serializer, func(t *testing.T) { checkPremise(t, interpreter, "msgpack", keys) })
			}
			if layerVersion(t, interpreter) >= "4.2" { // Earlier versions have no other serializer.
				t.Run("json", func(t *testing.T) { checkPremise(t, interpreter, "json", nil) })
				t.Run("json encrypted", func(t *testing.T) { checkPremise(t, interpreter, "json", []string{"secret"}) })
			}
		})
	}
}

// layerVersion returns the version of channels_redis that an interpreter has.
func layerVersion(t *testing.T, interpreter string) string {
	t.Helper()
	out, err := exec.Command(interpreter, "-c",
		`from importlib.metadata import version; print(version("channels_redis"))`).Output()
	if err != nil {
		t.Fatalf("%s: %v", interpreter, err)
	}
	return string(out)
}

// checkPremise emits events to receivers of relays and of Python processes, and compares their mailboxes.
func checkPremise(t *testing.T, interpreter, serializer string, keys []string) {
	server := peers.StartRedis(t)
	config := map[string]any{"hosts": []string{server.URL}, "capacity": 10000}
	if keys != nil {
		config["symmetric_encryption_keys"] = keys
	}
	if serializer != "msgpack" {
		config["serializer_format"] = serializer
	}
	emitter := peers.StartLayerIn(t, interpreter, peers.CoreLayer, config)
	receivers := []string{
		"specific." + strings.Repeat("a", 32) + "!", "specific." + strings.Repeat("b", 32) + "!",
		"specific." + strings.Repeat("c", 32) + "!",
	}
	for i, r := range receivers {
		for n := range i + 1 { // A receiver may have several members.
			server.Do("ZADD", "asgi:group:job_events-42", time.Now().Unix(), fmt.Sprint(r, n))
		}
	}
	const events = 20
	for i := range events {
		emitter.Send(peers.Event{Group: "job_events-42", Text: fmt.Sprintf(`{"n": %d, "é": "\u001b[0m"}`, i)})
	}
	codec, err := asgi.NewCodec(serializer, keys)
	if err != nil {
		t.Fatal(err)
	}
	codec.Random = asgi.RandomPrefix
	client := server.Client()
	defer client.Close()
	want := readMailbox(t, client, &codec, "asgi"+receivers[0])
	if len(want) != events {
		t.Fatalf("%d events in the first mailbox", len(want))
	}
	for _, r := range receivers[1:] {
		if got := readMailbox(t, client, &codec, "asgi"+r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the mailboxes differ:\n%q\n%q", got, want)
		}
	}
}

// readMailbox returns the time and the text of each message.
func readMailbox(t *testing.T, client *goredis.Client, codec *asgi.Codec, key string) (list []string) {
	t.Helper()
	raw, err := client.Do(context.Background(), "ZRANGE", key, 0, -1, "WITHSCORES").Result()
	if err != nil {
		t.Fatal(err)
	}
	pairs, _ := raw.([]any)
	for _, pair := range pairs {
		p, _ := pair.([]any)
		message, _ := p[0].(string)
		m, err := codec.Decode([]byte(message), true)
		if err != nil {
			t.Fatal(err)
		}
		ev, ok := m.Event()
		micros, isTime := sortedset.Micros(fmt.Appendf(nil, "%.17g", p[1]))
		if !ok || !isTime {
			t.Fatalf("%+v, score %v", m, p[1])
		}
		list = append(list, fmt.Sprint(micros, " ", string(ev.Text)))
	}
	return list
}
