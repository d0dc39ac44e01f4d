package e2e

import . "github.com/edgerelay/edgerelay/internal/e2e/peers"

// Who gets in, and where.
var connectScenes = []scene{
	{"a user is accepted with the numeric id", []step{
		open(Alice),
	}},
	{"each user has an id of their own", []step{
		openAs("one", Admin),
		openAs("two", Bob),
	}},
	{"no cookie: accepted, told and closed with 1000", []step{
		connect(handshake{}),
		want(`{"close": true}`), wantClosed(1000),
	}},
	{"a session that does not exist: told and closed", []step{
		connect(handshake{header: map[string]string{"Cookie": "awx_sessionid=doesnotexist; csrftoken=x"}}),
		want(`{"close": true}`), wantClosed(1000),
	}},
	{"a session that was logged out: told and closed", []step{
		func(p *play) error {
			gone := p.stage.controller.Login(Alice)
			p.stage.controller.Logout(gone)
			return connect(handshake{header: map[string]string{"Cookie": gone.Header().Get("Cookie")}})(p)
		},
		want(`{"close": true}`), wantClosed(1000),
	}},
	{"a wrong password in Authorization: told and closed", []step{
		connect(handshake{header: map[string]string{"Authorization": "Basic YWxpY2U6d3Jvbmc="}}),
		want(`{"close": true}`), wantClosed(1000),
	}},
	{"Basic Authorization", []step{
		connect(handshake{header: map[string]string{"Authorization": "Basic YWxpY2U6YWxpY2UtcGFzc3dvcmQ="}}),
		differs("over AWX's HTTP API, with the browser's own Cookie/Authorization headers passed on",
			steps(want(`{"close": true}`), wantClosed(1000)),
			accepted(Alice)),
	}},
	{"path /websocket", pathScene("/websocket")},
	{"path /api/websocket/", pathScene("/api/websocket/")},
	{"path /api/websocket", pathScene("/api/websocket")},
	{"path /api/controller/v2/websocket/", pathScene("/api/controller/v2/websocket/")},
	{"path /api/controller/v2/websocket", pathScene("/api/controller/v2/websocket")},
	{"a query does no harm", pathScene("/websocket/?a=1&b=%2F")},
	{"under an ingress prefix", []step{
		differs("with and without the trailing slash, under any ingress prefix",
			refused(handshake{user: Alice, path: "/ingress/awx/websocket/"}, 500),
			steps(pathScene("/ingress/awx/websocket/")...)),
	}},
	{"a path that only looks like it", []step{
		refused(handshake{user: Alice, path: "/websockets/"}, 500),
	}},
	{"without Upgrade it is not ours", []step{
		get("/websocket/", 404),
		get("/api/websocket/", 404),
		get("/", 200),
		get("/api/v2/me/", 401),
	}},
	{"Origin of the site itself", []step{
		connect(handshake{user: Alice, header: map[string]string{"Origin": "$SITE"}}),
		accepted(Alice),
	}},
	{"Origin of another site", []step{
		differs("same-origin by default",
			steps(connect(handshake{user: Alice, header: map[string]string{"Origin": "https://elsewhere.example"}}),
				accepted(Alice)),
			refused(handshake{user: Alice, header: map[string]string{"Origin": "https://elsewhere.example"}}, 403)),
	}},
	{"a ping is answered", []step{
		open(Alice), ping(),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		ping(),
	}},
	{"a client's close is answered", []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		hangUp(1001),
	}},
	{"a new connection remembers nothing of the last", []step{
		openAs("first", Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		hangUp(1000),
		openAs("second", Alice),
		subscribe(`{"jobs": ["status_changed"]}`), answer("jobs-status_changed", "", "jobs-status_changed"),
		publish("jobs-summary", "for nobody"), publish("jobs-status_changed", "for the second"),
		wantText("for the second"),
	}},
}

func pathScene(path string) []step {
	return []step{
		connect(handshake{user: Alice, path: path}), accepted(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		publish("jobs-summary", "by "+path), wantText("by " + path),
	}
}
