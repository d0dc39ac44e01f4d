//go:build wasm

package function

import edgerelay "github.com/edgerelay/edgerelay/sdk/go"

//go:wasmexport ev_init
func onInit() int32 {
	if setup := edgerelay.Registered().OnInit; setup != nil {
		return edgerelay.Init(setup)
	}
	return 0
}

//go:wasmexport ev_on_connect
func onConnect(size uint32) uint64 {
	if handler := edgerelay.Registered().OnConnect; handler != nil {
		return edgerelay.OnConnect(size, handler)
	}
	return 0
}

//go:wasmexport ev_on_message
func onMessage(kind, size uint32) uint64 {
	if handler := edgerelay.Registered().OnMessage; handler != nil {
		return edgerelay.OnMessage(kind, size, handler)
	}
	return 0
}

//go:wasmexport ev_on_close
func onClose(code, size uint32) uint64 {
	if handler := edgerelay.Registered().OnClose; handler != nil {
		return edgerelay.OnClose(code, size, handler)
	}
	return 0
}

//go:wasmexport ev_on_result
func onResult(token uint64, status int32, size uint32) uint64 {
	return edgerelay.OnResult(token, status, size, edgerelay.Registered().OnResult)
}

//go:wasmexport ev_on_alarm
func onAlarm(name, payload uint32) uint64 {
	if handler := edgerelay.Registered().OnAlarm; handler != nil {
		return edgerelay.OnAlarm(name, payload, handler)
	}
	return 0
}
