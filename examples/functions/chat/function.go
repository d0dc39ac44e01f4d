// Command chat is an edge function: the chat of the Channels tutorial without Python. Each room is a group, and each
// message is published to the group of its room.
package main

import (
	"strconv"
	"unicode/utf8"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
	"github.com/edgerelay/edgerelay/sdk/go/function"
)

const (
	// maxMessage is the length of a message in characters.
	maxMessage = 1000
	// maxPerSecond bounds the messages of a client. A client that sends more is disconnected.
	maxPerSecond = 10
)

func init() {
	function.OnConnect(enter)
	function.OnMessage(say)
}

// enter lets a client into the room of its path. The name of a group has no other characters than \w, "-" and ".".
func enter(c *edgerelay.Connect) edgerelay.Admission {
	group := "chat_" + c.Param("room")
	if c.Join(group) != nil {
		return edgerelay.Reject
	}
	return edgerelay.AdmitIf(c.SetAttachment(edgerelay.Object("group", group)))
}

// say publishes a message as the tutorial's consumer does, so that consumers in Python get it as well.
func say(c *edgerelay.Client, m *edgerelay.Message) error {
	text, ok := m.Text("message")
	if !ok || utf8.RuneCountInString(text) > maxMessage {
		return nil // not a message of this chat
	}
	if !allowed(c) {
		return c.Close(1008, "too many messages")
	}
	return edgerelay.PublishMessage(c.AttachmentText("group"), "chat.message", edgerelay.Object("message", text))
}

// allowed counts the client's messages of the current second, in its attachment: the next message may come to another
// instance of the module.
func allowed(c *edgerelay.Client) bool {
	second, sent := strconv.FormatInt(edgerelay.Now()/1000, 10), 0
	if c.AttachmentText("second") == second {
		sent, _ = strconv.Atoi(c.AttachmentText("sent"))
	}
	sent++
	attachment := edgerelay.Object("group", c.AttachmentText("group"), "second", second, "sent", strconv.Itoa(sent))
	return c.SetAttachment(attachment) == nil && sent <= maxPerSecond
}

func main() {}
