// Command goecho is a function that echoes each message.
package main

import (
	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
	"github.com/edgerelay/edgerelay/sdk/go/function"
)

func init() {
	function.OnMessage(func(_ *edgerelay.Client, m *edgerelay.Message) error {
		m.Reply(m.Payload)
		return nil
	})
}

func main() {}
