// Package function is for edge functions: plugins that answer clients. A plugin registers handlers in its function
// init; this package exports the hooks of the module. A chat:
//
//	package main
//
//	import (
//		edgerelay "github.com/edgerelay/edgerelay/sdk/go"
//		"github.com/edgerelay/edgerelay/sdk/go/function"
//	)
//
//	func init() {
//		function.OnConnect(func(c *edgerelay.Connect) edgerelay.Admission {
//			c.SetAttachment("chat-" + c.Param("room"))
//			return edgerelay.AdmitIf(c.Join("chat-" + c.Param("room")))
//		})
//		function.OnMessage(func(c *edgerelay.Client, m *edgerelay.Message) error {
//			return c.Publish(c.Attachment(), m.String())
//		})
//	}
//
//	func main() {}
//
// The handlers of a module see all clients of all its routes. Instances come and go: what concerns a client belongs in
// its attachment, and what concerns several belongs in [edgerelay.Shared]. Responses to requests go to a handler of
// [OnResult] by its name. Hooks for events are exports as in any plugin, such as [edgerelay.OnEvent]. This package
// exports ev_init, so a function's setup is a handler of [OnInit].
package function

import edgerelay "github.com/edgerelay/edgerelay/sdk/go"

// OnInit registers setup, which runs before any other handler. If it fails, the relay rejects the plugin with that
// error. Several setups run in the order of their registration.
func OnInit(setup func() error) {
	hooks := edgerelay.Registered()
	earlier := hooks.OnInit
	hooks.OnInit = func() error {
		if earlier != nil {
			if err := earlier(); err != nil {
				return err
			}
		}
		return setup()
	}
}

// AutoResponse makes the relay answer text messages that equal request, such as a heartbeat, without a call of the
// plugin. There are at most 10 pairs, of 2,048 bytes each.
func AutoResponse(request, response string) {
	OnInit(func() error { return edgerelay.AutoResponse(request, response) })
}

// OnConnect registers the handler of new connections. Without one, the function accepts all that the route lets in.
func OnConnect(handler func(*edgerelay.Connect) edgerelay.Admission) {
	edgerelay.Registered().OnConnect = handler
}

// OnMessage registers the handler of clients' messages. An error is logged, and discards the effects.
func OnMessage(handler func(*edgerelay.Client, *edgerelay.Message) error) {
	edgerelay.Registered().OnMessage = handler
}

// OnClose registers the handler of clients that are gone.
func OnClose(handler func(*edgerelay.Client, *edgerelay.Closing) error) {
	edgerelay.Registered().OnClose = handler
}

// OnResult registers the handler of responses to requests that are made with [edgerelay.Then] and this name.
func OnResult(name string, handler func(*edgerelay.Client, *edgerelay.Response) error) {
	hooks := edgerelay.Registered()
	if hooks.OnResult == nil {
		hooks.OnResult = edgerelay.Results{}
	}
	hooks.OnResult[name] = handler
}

// OnAlarm registers the handler of alarms. After an error, the alarm comes again.
func OnAlarm(handler func(*edgerelay.Alarm) error) { edgerelay.Registered().OnAlarm = handler }
