//go:build linux

package main

import (
	"bytes"
	"compress/flate"
	"hash/maphash"
	"io"
	"weak"
)

// deflateOffer is the offer of browsers.
const deflateOffer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

// windowSize is the size of a client's window.
const windowSize = 32 << 10

// inflater decodes the compressed messages (RFC 7692) of many clients. Clients that have got the same messages are in
// the same state, and share the work: else a thousand clients would keep the machine busy, and not the server.
type inflater struct {
	flate  io.ReadCloser
	seed   maphash.Seed
	first  state
	recent [recentStates]*state // others may come to them: a client reads a whole burst at once
	made   int
}

// recentStates is more than the events of a burst.
const recentStates = 1024

// state is what a client remembers of the compressed messages. It is garbage when it is not recent, and no client is in
// it.
type state struct {
	text   []byte // of the last message
	window []byte
	next   map[uint64]weak.Pointer[state] // by the hash of the next message
}

// message returns the state of a client that was in a state before, nil for the first, behind a compressed message.
func (f *inflater) message(before *state, compressed []byte) (*state, error) {
	if before == nil {
		before = &f.first
	}
	if before.next == nil {
		before.next = map[uint64]weak.Pointer[state]{}
		if f.flate == nil {
			f.seed = maphash.MakeSeed()
		}
	}
	key := maphash.Bytes(f.seed, compressed)
	if known := before.next[key].Value(); known != nil {
		return known, nil
	}
	in := io.MultiReader(bytes.NewReader(compressed), bytes.NewReader([]byte("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	if f.flate == nil {
		f.flate = flate.NewReaderDict(in, before.window)
	} else if err := f.flate.(flate.Resetter).Reset(in, before.window); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f.flate)
	if err != nil {
		return nil, err
	}
	window := append(bytes.Clone(before.window), text...)
	after := &state{text: text, window: bytes.Clone(window[max(0, len(window)-windowSize):])}
	before.next[key] = weak.Make(after)
	f.recent[f.made%recentStates] = after
	f.made++
	return after, nil
}
