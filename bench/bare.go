//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
)

// bareLoop is the reference server: one goroutine, one frame encoded per event, one write per event and client.
// Nothing is joined or queued. The server knows one group and only the messages that the receivers send.
type bareLoop struct {
	mu      sync.Mutex
	clients []net.Conn
}

// bareAddresses is the line that a bare loop prints once the server listens.
type bareAddresses struct{ Clients, Events string }

// serveBare is the hidden subcommand of the bare loop; with a certificate it speaks TLS.
func serveBare(certFile, keyFile string) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	addr := ln.Addr().String()
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return fmt.Errorf("load certificate: %w", err)
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	events, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(bareAddresses{addr, events.Addr().String()}); err != nil {
		return fmt.Errorf("tell the addresses: %w", err)
	}
	var b bareLoop
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	for {
		conn, err := events.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if err := b.fanOut(conn); err != nil {
			return err
		}
	}
}

// fanOut writes each line of conn to every client. The line GC collects garbage and gets a reply.
func (b *bareLoop) fanOut(conn net.Conn) error {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	var out []byte
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if string(line) == "GC" {
			runtime.GC()
			_, _ = conn.Write([]byte("OK\n"))
			continue
		}
		out = appendServerFrame(out[:0], opText, line)
		b.mu.Lock()
		for _, c := range b.clients {
			_, _ = c.Write(out)
		}
		b.mu.Unlock()
	}
}

// serve accepts the handshake and the subscribe message, then waits for the end.
func (b *bareLoop) serve(conn net.Conn) {
	defer conn.Close()
	if !b.greet(conn) {
		return
	}
	b.mu.Lock() // after groups_current a client receives every event
	_, err := conn.Write(appendServerFrame(nil, opText,
		[]byte(`{"groups_current": ["`+benchGroup+`"], "groups_left": [], "groups_joined": ["`+benchGroup+`"]}`)))
	b.clients = append(b.clients, conn)
	b.mu.Unlock()
	if err != nil {
		return
	}
	var buf [64]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}

// greet answers the handshake and reads the subscribe message.
func (b *bareLoop) greet(conn net.Conn) bool {
	var buf [1024]byte
	n := 0
	for !bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
		m, err := conn.Read(buf[n:])
		if err != nil || n == len(buf) {
			return false
		}
		n += m
	}
	if !bytes.Contains(buf[:n], []byte(wsKey)) {
		return false
	}
	hello := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + wsAccept + "\r\n\r\n")
	if _, err := conn.Write(appendServerFrame(hello, opText, []byte(`{"accept": true, "user": null}`))); err != nil {
		return false
	}
	_, err := conn.Read(buf[:]) // the subscribe message comes in one segment
	return err == nil
}
