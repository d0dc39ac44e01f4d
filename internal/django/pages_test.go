package django

import (
	"errors"
	"net/url"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/browser"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// see records the text of an element once an expression is true, also on the next page.
func (p *play) see(page *browser.Page, when, element string) {
	p.Helper()
	testkit.EventuallyWithin(p, patience, when, func() error {
		holds, err := chromedp.Run(page.Context, chromedp.Evaluate[bool](when))
		if err == nil && !holds {
			err = errors.New("not yet")
		}
		return err
	})
	text, err := chromedp.Run(page.Context, chromedp.Text(chromedp.CSS(element)))
	if err != nil {
		p.Fatal(err)
	}
	p.record("%s: %q", element, text)
}

// fill types into a field.
func fill(element, text string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(chromedp.CSS(element), text)
}

func click(element string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(element))
}

// connected is true when the page has its WebSocket.
const connected = `document.querySelector("#state")?.textContent === "connected"`

// The pages of the sites in a real browser, against Daphne and against the relay.
func TestPages(t *testing.T) {
	for _, e := range []example{
		{name: "chat", script: chatPage},
		{name: "notifications", script: notificationsPage, prepare: []string{"migrate", "demo"}},
		{name: "tokens", script: tokensPage, prepare: []string{"migrate", "demo"}},
	} {
		t.Run(e.name, e.compare)
	}
}

var chatPage = script{
	play: func(p *play) {
		page := browser.Open(p)
		page.Do(p, chromedp.Navigate(p.url+"/chat/lobby/"))
		p.see(page, connected, "h1")
		page.Do(p, fill("#message", "Grüße <b>👋</b>"), click("#say button"))
		p.see(page, `document.querySelectorAll("#log p").length === 1`, "#log")
		p.connect("bob", "/ws/chat/lobby/")
		p.send("bob", `{"message": "hello"}`)
		p.see(page, `document.querySelectorAll("#log p").length === 2`, "#log")
		p.hear("bob", 1)
		page.Do(p, fill("#message", "bye"), click("#say button"))
		p.hear("bob", 1)
		p.see(page, `document.querySelectorAll("#log p").length === 3`, "#state")
		p.noProblems(page)
	},
	want: `
h1: "Room lobby"
#log: "Grüße <b>👋</b>"
bob: open
#log: "Grüße <b>👋</b>\n\nhello"
bob: {"message": "hello"}
bob: {"message": "bye"}
#state: "connected"
`,
}

var notificationsPage = script{
	play: func(p *play) {
		page := browser.Open(p)
		p.logIn("bob")
		notify := func(text string) {
			p.Helper()
			p.post("bob", "/notify/", url.Values{"user": {"alice"}, "text": {text}})
		}
		notify("while away")
		page.Do(p, chromedp.Navigate(p.url+"/login/"), fill("#id_username", "alice"),
			fill("#id_password", peers.Password("alice")), click("#submit"))
		p.see(page, connected+` && document.querySelector("#unread")?.textContent === "1"`, "#user")
		p.see(page, "true", "#unread")
		notify("Grüße <b>👋</b>")
		p.see(page, `document.querySelector("#unread")?.textContent === "2"`, "#list")
		page.Do(p, click("#read"))
		p.see(page, `document.querySelector("#unread")?.textContent === "0"`, "#unread")
		notify("last")
		p.see(page, `document.querySelector("#unread")?.textContent === "1"`, "#list")
		p.noProblems(page)
	},
	want: `
#user: "alice"
#unread: "1"
#list: "Grüße <b>👋</b>\nwhile away"
#unread: "0"
#list: "last\nGrüße <b>👋</b>\nwhile away"
`,
}

var tokensPage = script{
	play: func(p *play) {
		for _, query := range []string{"", "?query"} {
			page := browser.Open(p)
			page.Do(p, chromedp.Navigate(p.url+"/"+query), fill("#username", "alice"),
				fill("#password", peers.Password("alice")), click("#submit"))
			p.see(page, connected, "#state")
			answer := p.postJSON("", "/token/", map[string]string{"username": "bob", "password": peers.Password("bob")})
			token, _ := answer["token"].(string)
			p.postJSON(token, "/tickets/7/", map[string]string{"team": "billing", "state": "ö<b>pen</b>"})
			p.postJSON(token, "/tickets/8/", map[string]any{"assign": 1})
			p.see(page, `document.querySelectorAll("#list li").length === 2`, "#list")
			p.noProblems(page)
		}
	},
	want: `
#state: "connected"
#list: "Ticket 8 is yours\nTicket 7 is ö<b>pen</b> (bob)"
#state: "connected"
#list: "Ticket 8 is yours\nTicket 7 is ö<b>pen</b> (bob)"
`,
}

// noProblems expects that the browser's console has no errors.
func (p *play) noProblems(page *browser.Page) {
	p.Helper()
	if problems := page.Problems(); len(problems) > 0 {
		p.Errorf("the console has %q", problems)
	}
}
