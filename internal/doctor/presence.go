package doctor

// Presence reports whether presence reaches the channel layer, and whether events of webhooks were dropped.
func Presence(members int, trouble string, dropped uint64) Finding {
	const check = "presence"
	switch {
	case trouble != "":
		return fail(check, "check the channel layer, and that its user may use the keys edgerelay:*",
			"presence is not kept at the moment: %s", trouble)
	case dropped > 0:
		return warn(check, "see why the site did not answer its webhooks for so long, and compare its state with "+
			"GET /edgerelay/presence", "%d events of webhooks were dropped, because their queue was full", dropped)
	}
	return ok(check, "presence is kept: %d users in groups on this node", members)
}

// Webhook reports the response of the site to a request without events.
func Webhook(url string, err error) Finding {
	const check = "presence webhook"
	if err != nil {
		return fail(check, "make the site respond with 200 to a POST with {\"events\": []}, or correct the webhook's URL",
			"%s does not answer: %v", url, err)
	}
	return ok(check, "%s answers", url)
}
