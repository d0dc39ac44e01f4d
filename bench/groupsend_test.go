//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestGroupSendIsPythons sends one event to a group of two nodes' channels by channels_redis itself and
// by groupSender, and compares what Redis was told, as MONITOR shows it.
func TestGroupSendIsPythons(t *testing.T) {
	r, err := startRedis(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	members := []string{"specific.aaaa!1", "specific.aaaa!2", "specific.bbbb!3"}
	for i, m := range members {
		if _, err := r.ctl.do("ZADD", "asgi:group:"+benchGroup, fmt.Sprintf("%d", 2_000_000_000+i), m); err != nil {
			t.Fatal(err)
		}
	}
	src := newSource()
	src.resize(300)
	python := watch(t, r, func() {
		script := fmt.Sprintf(`
import asyncio, sys
from channels_redis.core import RedisChannelLayer
layer = RedisChannelLayer(hosts=[("127.0.0.1", %s)], capacity=%d, group_expiry=%d)
async def go():
    await layer.group_send(%q, {"type": "internal.message", "text": %q})
    await layer.close_pools()
asyncio.run(go())
`, strings.TrimPrefix(r.addr, "127.0.0.1:"), layerCapacity, layerGroupExpiry, benchGroup, src.event())
		if out, err := exec.Command("/usr/bin/python3", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("apt-get install -y python3-channels-redis: %v: %s", err, out)
		}
	})
	sender, err := newGroupSender(r.addr, benchGroup)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.close()
	ours := watch(t, r, func() {
		if err := sender.one(src); err != nil {
			t.Fatal(err)
		}
	})
	if a, b := strings.Join(plain(python), "\n"), strings.Join(plain(ours), "\n"); a != b || a == "" {
		t.Errorf("channels_redis sends\n%s\nand we\n%s", a, b)
	}
	burst := watch(t, r, func() {
		if err := sender.burst(src, 3); err != nil {
			t.Fatal(err)
		}
	})
	if got, one := plain(burst), plain(ours); len(got) != 3*len(one) ||
		strings.Join(got[2*len(one):], "\n") != strings.Join(one, "\n") {
		t.Errorf("a burst of three sends\n%s\nwant three times\n%s", strings.Join(got, "\n"), strings.Join(one, "\n"))
	}
	// the five events lie in both keys in their order
	for _, key := range []string{"asgispecific.aaaa!", "asgispecific.bbbb!"} {
		got, err := r.ctl.do("ZRANGE", key, "0", "-1")
		if err != nil || len(got.array) != 5 {
			t.Fatalf("%s holds %d messages, error %v", key, len(got.array), err)
		}
		for i, m := range got.array {
			if want := fmt.Sprintf(`{"seq":%d,`, firstSeq+i); !strings.Contains(m.text, want) {
				t.Errorf("%s, message %d lacks %s", key, i, want)
			}
		}
	}
}

// watch returns the commands that reach Redis while do runs, as MONITOR's lines, and their size.
func watch(t *testing.T, r *redisServer, do func()) []string {
	t.Helper()
	m, err := dialRESP(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if _, err := m.do("MONITOR"); err != nil {
		t.Fatal(err)
	}
	do()
	if _, err := r.ctl.do("ECHO", "the end"); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for {
		l, err := m.reply()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(l.text, `"ECHO" "the end"`) {
			return lines
		}
		lines = append(lines, l.text)
	}
}

var (
	head   = regexp.MustCompile(`^[0-9.]+ \[\d+ [^\]]+\] `)
	random = regexp.MustCompile(`"(\\"|[^"])*?\\x83\\xa4type`) // 12 random bytes before the map
	stamp  = regexp.MustCompile(`"1[0-9]{9}(\.[0-9]+)?"`)      // now, whole or with a fraction
	cutoff = regexp.MustCompile(`"-?[0-9]{8,10}"`)
	event  = regexp.MustCompile(`\\"seq\\":[0-9]+,\\"t\\":[0-9]+`)
)

// plain takes out of MONITOR's lines what must differ: time, connection, random bytes, and the words of the script
// (not its length), and the calls that the script itself makes.
func plain(lines []string) []string {
	var out []string
	for _, l := range lines {
		if strings.Contains(l, " lua] ") || strings.Contains(l, `"INFO"`) || strings.Contains(l, `"CLIENT"`) ||
			strings.Contains(l, `"SELECT"`) {
			continue
		}
		l = head.ReplaceAllString(l, "")
		if strings.HasPrefix(l, `"EVAL" "`) {
			rest := l[len(`"EVAL" "`):]
			i := strings.Index(rest, `" "`)
			script := strings.ReplaceAll(strings.ReplaceAll(rest[:i], `\n`, "\n"), `\"`, `"`)
			l = fmt.Sprintf(`"EVAL" <%d bytes>%s`, len(script), rest[i+1:])
		}
		l = random.ReplaceAllString(l, `"<random>\x83\xa4type`)
		l = stamp.ReplaceAllString(l, `"<now>"`)
		l = cutoff.ReplaceAllString(l, `"<cut-off>"`)
		out = append(out, event.ReplaceAllString(l, "<numbers>"))
	}
	return out
}
