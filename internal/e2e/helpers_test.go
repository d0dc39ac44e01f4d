package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// subscriber connects as a user and subscribes to full group names.
func subscriber(t *testing.T, url string, login peers.Login, groups ...string) *wstest.Client {
	t.Helper()
	c, err := trySubscriber(t, url, login, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trySubscriber is subscriber for goroutines other than the test's.
func trySubscriber(t *testing.T, url string, login peers.Login, groups ...string) (*wstest.Client, error) {
	c, _, err := wstest.Dial(t, url+"/websocket/", login.Header())
	if err != nil {
		return nil, err
	}
	if _, err := expectKey(c, "accept"); err != nil {
		return nil, err
	}
	answer, err := ask(c, login, groups...)
	if err != nil {
		return nil, err
	}
	if len(answer["groups_current"].([]any)) != len(groups) {
		return nil, fmt.Errorf("subscribed to %q, answer %v", groups, answer)
	}
	return c, nil
}

// ask subscribes to full group names and returns the answer, be it an error.
func ask(c *wstest.Client, login peers.Login, groups ...string) (map[string]any, error) {
	object := map[string][]string{}
	for _, g := range groups {
		kind, item, _ := strings.Cut(g, "-")
		object[kind] = append(object[kind], item)
	}
	text, err := json.Marshal(map[string]any{"groups": object, "xrftoken": login.CSRF})
	if err != nil {
		return nil, err
	}
	if err := c.Send(string(text)); err != nil {
		return nil, err
	}
	return expectKey(c, "groups_current", "error")
}

func expectKey(c *wstest.Client, keys ...string) (map[string]any, error) {
	text, err := c.Next(patience)
	if err != nil {
		return nil, err
	}
	var frame map[string]any
	if err := json.Unmarshal([]byte(text), &frame); err != nil {
		return nil, fmt.Errorf("%w: %.200q", err, text)
	}
	for _, key := range keys {
		if _, ok := frame[key]; ok {
			return frame, nil
		}
	}
	return nil, fmt.Errorf("got %.200s, want one of %q in it", text, keys)
}

// nothingMore asks for something that is always refused, and expects the refusal
// as the very next frame.
func nothingMore(c *wstest.Client) error {
	if err := c.Send(`{"xrftoken": "not the token"}`); err != nil {
		return err
	}
	got, err := c.Next(patience)
	if err != nil {
		return err
	}
	if got != deniedFrame {
		return fmt.Errorf("got %.200q, want nothing more", got)
	}
	return nil
}

// expectTexts expects exactly these frames and nothing more.
func expectTexts(c *wstest.Client, texts []string) error {
	for i, want := range texts {
		got, err := c.Next(patience)
		if err != nil {
			return fmt.Errorf("event %d of %d: %w", i, len(texts), err)
		}
		if got != want {
			return fmt.Errorf("event %d of %d:\ngot  %.200q\nwant %.200q", i, len(texts), got, want)
		}
	}
	return nothingMore(c)
}

// call makes an HTTP request and returns the answer's status and body.
func call(t testing.TB, method, url string, body []byte) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// fetch is call for what is only looked at.
func fetch(t testing.TB, url string) string {
	t.Helper()
	_, answer := call(t, http.MethodGet, url, nil)
	return answer
}

// publishHTTP publishes over the relay's part of Caddy's admin API.
func publishHTTP(t *testing.T, r *peers.Relay, group, data string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"group": group, "data": json.RawMessage(data)})
	if err != nil {
		t.Fatal(err)
	}
	status, answer := call(t, http.MethodPost, r.Admin+"/edgerelay/publish", body)
	if status/100 != 2 {
		t.Fatalf("publish: %d: %s", status, answer)
	}
	t.Logf("published %s to %s: %s", data, group, answer) // A failed test shows how many members the event had.
}

// publishCommand publishes with `caddy edgerelay publish`.
func publishCommand(t *testing.T, r *peers.Relay, group, data string) {
	t.Helper()
	out, err := r.Command("edgerelay", "publish", "--address", strings.TrimPrefix(r.Admin, "http://"),
		"--group", group, "--data", data).CombinedOutput()
	if err != nil {
		t.Fatalf("caddy edgerelay publish: %v\n%s", err, out)
	}
}
