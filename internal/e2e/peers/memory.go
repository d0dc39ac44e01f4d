package peers

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Memory returns the bytes of heap and of stacks that the relay's process uses after garbage collections.
//
// The figures are those that the runtime took before it wrote the profile. The profile itself is garbage in the relay's
// heap: some KiB for each place that ever allocated, several MiB after an hour with all features. Metrics that are read
// afterwards count it.
func (r *Relay) Memory() (heap, stacks int, err error) {
	// Pools keep their contents for one more collection.
	for range 2 {
		if heap, stacks, err = r.collect(); err != nil {
			return 0, 0, err
		}
	}
	return heap, stacks, nil
}

// collect runs a garbage collection and returns the bytes of heap and stacks.
func (r *Relay) collect() (heap, stacks int, err error) {
	url := r.Admin + "/debug/pprof/heap?gc=1&debug=1"
	resp, err := http.Get(url)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, 0, err
	}
	for name, to := range map[string]*int{"HeapAlloc": &heap, "Stack": &stacks} {
		_, rest, _ := strings.Cut(string(text), "\n# "+name+" = ")
		if _, err := fmt.Sscan(rest, to); err != nil {
			return 0, 0, fmt.Errorf("%s: %s without %s: %w", url, resp.Status, name, err)
		}
	}
	return heap, stacks, nil
}
