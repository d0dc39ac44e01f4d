package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// A browser's own EventSource on the relay: events of two groups, the relay's named events, and a reconnect after a
// stop, when it sends the ids of both groups.
func TestEventSource(t *testing.T) {
	s := clientSiteWith(t, "channel_layer memory\n\t\tauth none\n\t\thistory job_events-*", "edgerelay\n\tedgerelay_demo")
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Script(t, `
		window.got = []; window.subscribed = []; window.ends = [];
		window.source = new EventSource("websocket/?group=job_events-1&group=job_events-2");
		source.onmessage = ({ data, lastEventId }) => got.push([data, lastEventId]);
		source.addEventListener("subscribed", ({ data }) => subscribed.push(JSON.parse(data)));
		source.addEventListener("close", ({ data }) => ends.push(JSON.parse(data)));
	`)
	page.Wait(t, soon, `subscribed.length === 2`)
	page.Script(t, `publish("job_events-1", {"n": 1}).then(() => publish("job_events-2", {"n": 2}))`)
	page.Wait(t, soon, `got.length === 2 && JSON.parse(got[1][0]).n === 2 && got[1][1].split(",").length === 2`)
	s.stop(t)
	page.Wait(t, soon, `ends.length === 1 && ends[0].code === 1001`)
	s.start(t)
	// The memory layer has forgotten the events, and the page hears so for both groups.
	page.Wait(t, soon, `subscribed.length === 4 && subscribed[2].recovered === false && subscribed[3].recovered === false`)
	page.Script(t, `publish("job_events-2", {"n": 3})`)
	page.Wait(t, soon, `got.length === 3 && JSON.parse(got[2][0]).n === 3`)
}
