package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// functionWriter is a client that adds to the counter of its room and pushes values to the room's lists, in turn. It
// keeps what it was told about each write.
type functionWriter struct {
	crowd *functionCrowd
	name  string
	room  int
	node  int // that the client is connected to
	conn  *wstest.Raw
	moves bool // from the first node to the other one, and has not written there

	sums         []int64 // of the counter, one for each acknowledged addition
	unknownSums  int64
	pushes       int
	pushed       []string // acknowledged values
	unknownItems map[string]bool
}

// dialFunction connects a client to the function.
func dialFunction(r *peers.Relay, room string) (*wstest.Raw, error) {
	conn, err := wstest.DialRaw(r.URL+"/ws/"+room+"/", "")
	if err != nil {
		return nil, err
	}
	if text, err := conn.Next(testkit.Patience); text != "welcome" {
		conn.Close()
		return nil, fmt.Errorf("got %q instead of the greeting: %w", text, err)
	}
	return conn, nil
}

func (w *functionWriter) dial() (err error) {
	w.conn, err = dialFunction(w.crowd.nodes[w.node], "room_"+strconv.Itoa(w.room))
	return err
}

// run writes until ctx ends. A connection to the first node may end once; any other end is an error.
func (w *functionWriter) run(ctx context.Context) error {
	defer func() { w.conn.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		write := w.add
		if n%2 == 1 {
			write = w.push
		}
		if err := write(fmt.Sprint(w.name, ".", n)); err != nil {
			if w.node != 0 {
				return err
			}
			w.conn.Close()
			w.node = 1
			if err := testkit.Poll(testkit.Patience, ctx.Done(), w.dial); err != nil {
				return fmt.Errorf("connecting again: %w", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.crowd.load.pause):
		}
	}
	return nil
}

// The ends of a write.
const (
	writeDone    = iota // acknowledged
	writeRefused        // without effect
	writeUnknown        // with an effect or without
)

func (w *functionWriter) add(id string) error {
	end, body, err := w.write(fmt.Sprintf(`{"do":"add","key":"n%d","delta":1,"context":%q}`, w.room, id), id)
	switch end {
	case writeDone:
		sum, err := strconv.ParseInt(body, 10, 64)
		w.sums = append(w.sums, sum)
		return err
	case writeUnknown:
		w.unknownSums++
	}
	return err
}

func (w *functionWriter) push(id string) error {
	list := w.pushes / (listRoom / w.crowd.load.clients)
	w.pushes++
	end, _, err := w.write(fmt.Sprintf(`{"do":"push","key":"l%d.%d","value":%q,"limit":1000,"context":%q}`,
		w.room, list, id, id), id)
	switch end {
	case writeDone:
		w.pushed = append(w.pushed, id)
	case writeUnknown:
		if w.unknownItems == nil {
			w.unknownItems = map[string]bool{}
		}
		w.unknownItems[id] = true
	}
	return err
}

// write sends a request and waits for its response. An error is the end of the connection, or a wrong response.
func (w *functionWriter) write(request, id string) (end int, body string, err error) {
	status, body, err := askFunction(w.conn, request, id)
	switch {
	case err != nil || status == -1:
		w.crowd.unknown.Add(1)
		return writeUnknown, "", err
	case status == -5:
		w.crowd.refused.Add(1)
		return writeRefused, "", nil
	case status != 0:
		w.crowd.unknown.Add(1)
		return writeUnknown, "", fmt.Errorf("the status of %s is %d %q", request, status, body)
	}
	w.crowd.writes.Add(1)
	if w.node == 1 && w.moves {
		w.moves = false
		w.crowd.returned.Add(1)
	}
	return writeDone, body, nil
}

// askFunction returns the response to a request whose context is id. The status of a request that the plugin could not
// start is -5.
func askFunction(conn *wstest.Raw, request, id string) (status int, body string, err error) {
	if err := conn.Send(request); err != nil {
		return 0, "", err
	}
	text, err := conn.Next(testkit.Patience)
	if err != nil {
		return 0, "", err
	}
	if text == "-1" {
		return -5, "", nil
	}
	rest, ok := strings.CutPrefix(text, id+" ")
	digits, body, also := strings.Cut(rest, " ")
	status, err = strconv.Atoi(digits)
	if !ok || !also || err != nil {
		return 0, "", fmt.Errorf("%.100q came as the response to %s", text, request)
	}
	return status, body, nil
}

// checkCounter returns the sum of a room, and the number of acknowledged additions.
func checkCounter(reader *wstest.Raw, room int, clients []*functionWriter) (sum, acknowledged int64, err error) {
	status, body, err := askFunction(reader, fmt.Sprintf(`{"do":"get","key":"n%d","context":"get"}`, room), "get")
	if err != nil {
		return 0, 0, err
	}
	if sum, err = strconv.ParseInt(body, 10, 64); err != nil || status != 0 {
		return 0, 0, fmt.Errorf("the counter is %q, with status %d", body, status)
	}
	unknown, seen := int64(0), map[int64]bool{}
	for _, w := range clients {
		acknowledged += int64(len(w.sums))
		unknown += w.unknownSums
		for _, s := range w.sums {
			if seen[s] || s > sum {
				return sum, acknowledged, fmt.Errorf("%s was told %d, as another one, or the counter is less: %d", w.name, s, sum)
			}
			seen[s] = true
		}
	}
	if sum < acknowledged || sum > acknowledged+unknown {
		return sum, acknowledged, fmt.Errorf("the counter is %d, with %d additions acknowledged and %d unknown", sum,
			acknowledged, unknown)
	}
	return sum, acknowledged, nil
}

// checkLists returns the number of acknowledged values of a room. Each is in the lists once; an unknown one may be.
func checkLists(reader *wstest.Raw, room int, clients []*functionWriter) (acknowledged int64, err error) {
	found := map[string]int{}
	for list := 0; ; list++ {
		request := fmt.Sprintf(`{"do":"list","key":"l%d.%d","limit":1000,"context":"list"}`, room, list)
		status, body, err := askFunction(reader, request, "list")
		if err != nil {
			return 0, err
		}
		if status == 1 {
			break
		}
		var values []string
		if err := json.Unmarshal([]byte(body), &values); err != nil || status != 0 {
			return 0, fmt.Errorf("a list is %.100q, with status %d: %w", body, status, err)
		}
		for _, v := range values {
			found[v]++
		}
	}
	for _, w := range clients {
		for _, v := range w.pushed {
			acknowledged++
			if found[v] != 1 {
				err = fmt.Errorf("the value %s was acknowledged, and is in the lists %d times", v, found[v])
			}
			delete(found, v)
		}
		for v := range w.unknownItems {
			if found[v] > 1 {
				err = fmt.Errorf("the value %s is in the lists %d times", v, found[v])
			}
			w.crowd.applied += int64(found[v])
			delete(found, v)
		}
	}
	for v := range found {
		err = fmt.Errorf("no client has pushed the value %s", v)
	}
	return acknowledged, err
}
