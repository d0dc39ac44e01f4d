package e2e

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// promptly is how long a subscription or an event may take where nothing is wrong: less than the five seconds after
// which a subscription is answered in any case.
const promptly = 4 * time.Second

// stranger is the login of clients where the relay asks for none.
var stranger = peers.Login{Session: "s", CSRF: "t"}

// startOn starts a relay on a channel layer, without logins.
func startOn(t *testing.T, layer string) *peers.Relay {
	t.Helper()
	return peers.StartRelay(t, siteOn(layer))
}

func siteOn(layer string) string {
	return "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nchannel_layer " + layer + "\nauth none\n}\n}\n" +
		"{$SITE} {\nbind 127.0.0.1\nedgerelay\nedgerelay_health\nrespond \"next\"\n}\n"
}

// greeted opens a websocket and takes its first frame.
func greeted(t *testing.T, r *peers.Relay) *wstest.Client {
	t.Helper()
	c, _, err := wstest.Dial(t, r.URL+"/websocket/", stranger.Header())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := expectKey(c, "accept"); err != nil {
		t.Fatal(err)
	}
	return c
}

// askItems asks for groups of job_events, and does not wait for the answer.
func askItems(t *testing.T, c *wstest.Client, groups ...string) {
	t.Helper()
	items := make([]string, len(groups))
	for i, g := range groups {
		items[i] = `"` + strings.TrimPrefix(g, "job_events-") + `"`
	}
	if err := c.Send(`{"groups": {"job_events": [` + strings.Join(items, ", ") + `]}, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
}

// answered waits for a frame that has a text in it.
func answered(t *testing.T, c *wstest.Client, within time.Duration, text string) {
	t.Helper()
	if got, err := c.Next(within); err != nil || !strings.Contains(got, text) {
		t.Errorf("got %q, %v; want %s", got, err, text)
	}
}

// ringGroups are groups that a host of a ring of two keeps, as channels_redis has it.
func ringGroups(host, n int) (names []string) {
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprintf("job_events-%d", i)
		if int(crc32.ChecksumIEEE([]byte(name))&0xfff)/2048 == host {
			names = append(names, name)
		}
	}
	return names
}

// healthOf returns status and text of a node's health.
func healthOf(t *testing.T, r *peers.Relay) (int, string) {
	t.Helper()
	status, _ := call(t, http.MethodGet, r.URL+"/health", nil)
	return status, fetch(t, r.Admin+"/edgerelay/health")
}

// One host of a ring accepts connections and is silent. Clients of groups on the other are answered and get events at
// once, whoever waits for the first; so do clients that want groups on both.
func TestSilentHostOfARing(t *testing.T) {
	t.Parallel()
	for bad := range 2 {
		t.Run(fmt.Sprint("host ", bad), func(t *testing.T) {
			t.Parallel()
			redis := peers.StartRedis(t)
			proxy := testkit.StartProxy(t, redis.Addr)
			proxy.Stall()
			urls := []string{redis.URL, redis.URL}
			urls[bad] = "redis://" + proxy.Addr + "/0"
			r := startOn(t, "redis "+urls[0]+" "+urls[1])
			lost, well := ringGroups(bad, 3), ringGroups(1-bad, 4)

			waits := greeted(t, r)
			askItems(t, waits, lost[0], well[0])
			first := greeted(t, r)
			askItems(t, first, well[0])
			answered(t, first, promptly, "groups_current")
			second := greeted(t, r)
			askItems(t, second, well[1])
			answered(t, second, promptly, "groups_current")
			for i, c := range []*wstest.Client{first, second} {
				publishHTTP(t, r, well[i], fmt.Sprintf(`{"n":%d}`, i))
				answered(t, c, promptly, fmt.Sprintf(`{"n":%d}`, i))
			}
			answered(t, waits, promptly, `{"n":0}`)
			status, text := healthOf(t, r)
			if status != 503 || !strings.Contains(text, proxy.Addr) || strings.Contains(text, redis.Addr) {
				t.Errorf("health is %d %s, want 503 and the name of the silent host", status, text)
			}
			began := time.Now()
			if err := r.Load(siteOn("redis " + urls[0] + " " + urls[1] + " {\ncapacity 200\n}")); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("a reload took %v", took)
			}
			proxy.Resume()
			testkit.Eventually(t, "the ring to be well", func() error {
				if status, text := healthOf(t, r); status != 200 {
					return fmt.Errorf("%d %s", status, text)
				}
				return nil
			})
			publishHTTP(t, r, lost[0], `{"n":9}`)
			answered(t, waits, patience, `groups_current`)
			answered(t, waits, patience, `{"n":9}`)
		})
	}
}

// A group's key holds a string: the others are joined at once, health stays 200, and the group is joined when the key
// is gone.
func TestGroupKeyIsNoSortedSet(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	redis.Do("SET", "asgi:group:job_events-42", "x")
	r := startOn(t, "redis "+redis.URL)
	odd := greeted(t, r)
	askItems(t, odd, "job_events-42")
	c := greeted(t, r)
	askItems(t, c, "job_events-1")
	answered(t, c, promptly, "groups_current")
	testkit.Eventually(t, "health to name the key", func() error {
		if status, text := healthOf(t, r); status != 200 || !strings.Contains(text, "asgi:group:job_events-42") {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	if n := strings.Count(r.Log(), `"group cannot be joined"`); n != 1 {
		t.Errorf("told %d times in the log", n)
	}
	redis.Do("DEL", "asgi:group:job_events-42")
	testkit.Eventually(t, "the group to be joined", func() error {
		if n := redis.Do("ZCARD", "asgi:group:job_events-42"); n != int64(1) {
			return fmt.Errorf("%v members", n)
		}
		return nil
	})
	answered(t, odd, patience, "groups_current")
	publishHTTP(t, r, "job_events-42", `{"n":1}`)
	answered(t, odd, patience, `{"n":1}`)
}

// Strings in the node's own keys: they are deleted and counted, and events go on.
func TestOwnKeysHoldStrings(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := startOn(t, "redis "+redis.URL)
	c := greeted(t, r)
	askItems(t, c, "job_events-1")
	answered(t, c, patience, "groups_current")
	member := redis.Do("ZRANGE", "asgi:group:job_events-1", 0, 0).([]any)[0].(string)
	receiver, _, _ := strings.Cut(member, "!")
	redis.Do("SET", "asgi"+receiver+"!", "x")
	testkit.Eventually(t, "the key to be healed", func() error {
		text := fetch(t, r.Admin+"/metrics")
		if !strings.Contains(text, "edgerelay_channel_layer_healed_keys_total 1") {
			return fmt.Errorf("not counted; keys %v", redis.Do("KEYS", "*"))
		}
		return nil
	})
	publishHTTP(t, r, "job_events-1", `{"n":1}`)
	answered(t, c, patience, `{"n":1}`)
	if status, text := healthOf(t, r); status != 200 {
		t.Errorf("health is %d %s", status, text)
	}
}

// A proxy that does not know HELLO, and says so in its own words or hangs up: subscriptions and events work, and
// health is well.
func TestProxyWithoutHello(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"-ERR unsupported command 'hello'", peers.HangUp} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			redis := peers.StartRedis(t)
			addr := peers.StartImpostor(t, redis.Addr, func(command string) string {
				if strings.HasPrefix(command, "HELLO") {
					return reply
				}
				return ""
			})
			r := startOn(t, "redis redis://"+addr+"/0")
			c := greeted(t, r)
			askItems(t, c, "job_events-1")
			answered(t, c, promptly, "groups_current")
			testkit.Eventually(t, "health", func() error {
				if status, text := healthOf(t, r); status != 200 {
					return fmt.Errorf("%d %s", status, text)
				}
				return nil
			})
			publishHTTP(t, r, "job_events-1", `{"n":1}`)
			answered(t, c, patience, `{"n":1}`)
		})
	}
}

// A relay connects while a script holds Redis. Once that is over, Redis notifies the relay of changes; it is not
// polled.
func TestCommandsAreRetriedOnABusyRedis(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t, "--lua-time-limit", "50")
	client := redis.Client()
	defer client.Close()
	looping := make(chan error, 1)
	go func() { looping <- client.Eval(t.Context(), "while true do end", nil).Err() }()
	busy := redis.Client()
	defer busy.Close()
	testkit.Eventually(t, "Redis to be busy", func() error {
		if err := busy.Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "BUSY") {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
	r := startOn(t, "redis "+redis.URL)
	testkit.Eventually(t, "the relay to meet it", func() error {
		if _, text := healthOf(t, r); !strings.Contains(text, "BUSY") {
			return errors.New(text)
		}
		return nil
	})
	if err := busy.ScriptKill(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	<-looping
	testkit.Eventually(t, "Redis to notify the relay", func() error {
		if info := fmt.Sprint(redis.Do("INFO", "clients")); !strings.Contains(info, "tracking_clients:1\r\n") {
			return errors.New(info)
		}
		return nil
	})
	if strings.Contains(r.Log(), "does not notify of changes") {
		t.Error("the log blames Redis's nature")
	}
}

// CLIENT TRACKING is refused once, for the moment: it is asked again, and Redis is not polled for the rest of the day.
func TestTrackingIsRequestedAgain(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	var asked atomic.Int64
	addr := peers.StartImpostor(t, redis.Addr, func(command string) string {
		if strings.HasPrefix(command, "CLIENT TRACKING") && asked.Add(1) == 1 {
			return "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
		}
		return ""
	})
	startOn(t, "redis redis://"+addr+"/0")
	testkit.Eventually(t, "Redis to notify the relay", func() error {
		if info := fmt.Sprint(redis.Do("INFO", "clients")); !strings.Contains(info, "tracking_clients:1\r\n") {
			return errors.New(info)
		}
		return nil
	})
}

// A URL as it stands in CHANNEL_LAYERS works, with redis-py's options; one that must not be ignored is named.
func TestURLOfRedisPy(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	redis.Do("ACL", "SETUSER", "relay", "on", ">p^w", "~*", "&*", "+@all")
	r := startOn(t, "redis valkey://relay:p^w@"+redis.Addr+"?health_check_interval=30&socket_timeout=5&db=0")
	c := greeted(t, r)
	askItems(t, c, "job_events-1")
	answered(t, c, patience, "groups_current")
	publishHTTP(t, r, "job_events-1", `{"n":1}`)
	answered(t, c, patience, `{"n":1}`)
	if log := r.Log(); !strings.Contains(log, "options of a redis url ignored") || strings.Contains(log, "p^w") {
		t.Error("the log does not name the option, or tells the password")
	}
	for option, remedy := range map[string]string{
		"ssl_cert_reqs=none": "insecure_skip_verify", "no_such_option=secret": "no_such_option",
	} {
		err := r.Load(siteOn("redis rediss://relay:secret@" + redis.Addr + "?" + option))
		if err == nil || !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "relay:secret") {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// What reaches the relay and is not delivered has a line in the log that says why, for each cause.
func TestSkippedMessagesAreReported(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := startOn(t, "redis "+redis.URL)
	c := greeted(t, r)
	askItems(t, c, "job_events-1")
	answered(t, c, patience, "groups_current")
	python := peers.StartEmitter(t, redis.URL)
	python.SendMessage("job_events-1", map[string]any{"type": "internal.message", "text": map[string]any{"n": 1}})
	python.SendMessage("job_events-1", map[string]any{"type": "chat.message", "text": map[string]any{"n": 1}})
	json := peers.StartLayer(t, peers.CoreLayer, map[string]any{
		"hosts": []string{redis.URL}, "symmetric_encryption_keys": []string{"k"},
	})
	json.SendMessage("job_events-1", map[string]any{"type": "internal.message", "text": "{}"})
	for _, line := range []string{`"reason":"text"`, `"type":"chat.message"`, `"reason":"encoding"`} {
		testkit.Eventually(t, "a line with "+line, func() error {
			if !strings.Contains(r.Log(), line) {
				return errors.New("not in the log")
			}
			return nil
		})
	}
	status, text := call(t, http.MethodPost, r.Admin+"/edgerelay/doctor", nil)
	if status != 200 || !strings.Contains(text, "chat.message") {
		t.Errorf("doctor does not name the type: %d %s", status, text)
	}
}
