package soak

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// vitals are the measures of a relay at rest.
type vitals struct {
	goroutines, files int // files without connections to Redis
	sockets           int // of files, those of the kernel's sockets
	toRedis           int // connections: the busiest moment decides how many a pool keeps for half an hour
	instances         int // bytes of the plugins' linear memory
	pooled            int // bytes queued for clients, or kept for compression
	heap, resident    int // bytes; heap and stacks after a collection, resident without pages of files
	connections       int
	keys              []string // in the Redis servers
}

// measure takes a relay's measures, and lists the keys of the given servers.
func measure(r *peers.Relay, stores ...*peers.Redis) (v vitals, err error) {
	heap, stacks, err := r.Memory()
	if err != nil {
		return v, err
	}
	v.heap = heap + stacks
	profile, err := get(r.Admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return v, err
	}
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &v.goroutines); err != nil {
		return v, err
	}
	files, err := os.ReadDir(fmt.Sprint("/proc/", r.PID(), "/fd"))
	if err != nil {
		return v, err
	}
	v.files = len(files)
	redis, err := connections(r, stores)
	if err != nil {
		return v, err
	}
	for _, f := range files {
		to, err := os.Readlink(fmt.Sprint("/proc/", r.PID(), "/fd/", f.Name()))
		switch inode, ok := strings.CutPrefix(to, "socket:["); {
		case err != nil || !ok:
		case redis[strings.TrimSuffix(inode, "]")]:
			v.toRedis++
			v.files--
		default:
			v.sockets++
		}
	}
	status, err := os.ReadFile(fmt.Sprint("/proc/", r.PID(), "/status"))
	if err != nil {
		return v, err
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	if _, err := fmt.Sscanf(rest, "%d kB", &v.resident); err != nil {
		return v, err
	}
	v.resident <<= 10
	m, err := metrics(r)
	if err != nil {
		return v, err
	}
	v.connections = int(m["edgerelay_connections"])
	for name, value := range m {
		switch family, _, _ := strings.Cut(name, "{"); family {
		case "edgerelay_plugin_memory_bytes":
			v.instances += int(value)
		case "edgerelay_compression_memory_bytes", "edgerelay_slow_socket_bytes", "edgerelay_shard_queue_bytes":
			v.pooled += int(value)
		}
	}
	for _, store := range stores {
		for _, k := range store.Do("KEYS", "*").([]any) {
			v.keys = append(v.keys, k.(string))
		}
	}
	return v, nil
}

// connections returns the inodes of the sockets of a relay's network that are connected to the given servers.
func connections(r *peers.Relay, stores []*peers.Redis) (inodes map[string]bool, err error) {
	table, err := os.ReadFile(fmt.Sprint("/proc/", r.PID(), "/net/tcp"))
	inodes = map[string]bool{}
	for _, store := range stores {
		_, port, _ := strings.Cut(strings.TrimPrefix(store.URL, "redis://"), ":")
		port, _, _ = strings.Cut(port, "/")
		n, portErr := strconv.Atoi(port)
		if portErr != nil {
			return nil, portErr
		}
		for _, line := range strings.Split(string(table), "\n")[1:] {
			if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", n)) {
				inodes[f[9]] = true
			}
		}
	}
	return inodes, err
}

// metrics reads a relay's metrics, keyed by name and labels.
func metrics(r *peers.Relay) (map[string]float64, error) {
	text, err := get(r.Admin + "/metrics")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
				m[line[:i]] = v
			}
		}
	}
	return m, nil
}

func get(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }

// A measure does not count the memory that the measure itself needs. Each collection comes with a profile of the heap.
// The profile grows with the number of places that have ever allocated, as far as the rate of profiling has seen them.
func TestMeasureExcludesItself(t *testing.T) {
	heap := func(profiled string) int {
		t.Setenv("GODEBUG", "memprofilerate="+profiled)
		v, err := measure(peers.StartRelay(t, inMemory))
		if err != nil {
			t.Fatal(err)
		}
		return v.heap
	}
	all, none := heap("512"), heap("0")
	if all > none+1<<20 {
		t.Errorf("%.1f MiB of heap and stacks with a profile, %.1f without one", mib(all), mib(none))
	}
}

const inMemory = `{
	admin {$ADMIN}
	metrics
	log {
		level WARN
	}
	edgerelay {
		channel_layer memory
		auth none
	}
}
{$SITE} {
	edgerelay
	respond ok
}
`
