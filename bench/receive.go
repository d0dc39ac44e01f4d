//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// order is one command to a receiver process, a JSON line on its standard input. The receiver replies with one JSON
// line, an answer.
type order struct {
	Do       string `json:"do"` // connect, begin, cut, wait, switch, hang up or reopen
	Target   target `json:"target"`
	Clients  int    `json:"clients"`
	Parallel int    `json:"parallel"`
	Source   int    `json:"source"`
	Until    int64  `json:"until"`
	Sample   int64  `json:"sample"`
	StallMS  int64  `json:"stall_ms"`
}

type answer struct {
	Error string `json:"error,omitempty"`
	Tally *tally `json:"tally,omitempty"`
}

// receive is the hidden subcommand of a receiver process: it executes orders until its input ends.
func receive() error {
	r, err := newReceiver()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		failed <- r.loop()
	}()
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		var a answer
		switch o.Do {
		case "connect":
			if err := r.connect(o.Target, o.Clients, o.Parallel, o.Source); err != nil {
				a.Error = err.Error()
			}
		case "begin":
			r.begin(o.Until, o.Sample)
		case "hang up":
			r.hangUpAll()
		case "reopen":
			if err := r.reopen(o.Target, o.Parallel, o.Source); err != nil {
				a.Error = err.Error()
			}
		case "cut":
			r.cut(o.Until)
		case "switch":
			if err := r.change(o.Target); err != nil {
				a.Error = err.Error()
			}
		case "wait":
			t := r.wait(time.Duration(o.StallMS) * time.Millisecond)
			a.Tally = &t
		default:
			a.Error = "unknown order " + o.Do
		}
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := out.Encode(a); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}
