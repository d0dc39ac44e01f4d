// Command redact is an edgerelay plugin that keeps secrets out of browsers: passwords, tokens and keys in the output
// and the results of jobs become ********.
package main

import (
	"errors"
	"strings"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

var active = newRedactor(defaultWords, defaultMask)

//go:wasmexport ev_init
func Init() int32 { return edgerelay.Init(setup) }

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, onEvent) }

func setup() error {
	words, mask := edgerelay.ConfigList("words"), defaultMask
	if len(words) == 0 {
		words = defaultWords
	}
	if m, ok := edgerelay.ConfigText("mask"); ok {
		mask = m
	}
	for _, w := range words {
		if w == "" {
			return errors.New("config: an empty word would match everything")
		}
	}
	if strings.ContainsFunc(mask, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
		return errors.New("config: the mask must need no escapes in JSON")
	}
	active = newRedactor(words, mask)
	return nil
}

func onEvent(e *edgerelay.Event) edgerelay.Verdict {
	if out := active.redact(e.Payload); out != nil {
		return edgerelay.Replace(out)
	}
	return edgerelay.Pass
}

func main() {}
