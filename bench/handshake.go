//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// The nonce and accept value of RFC 6455, section 1.3. One pair serves every client, since the key protects against
// confused proxies only.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// dialect is the exchange that a system expects after the handshake.
type dialect string

const (
	// dialectAWX subscribes by a message and waits for groups_current.
	dialectAWX dialect = "awx"
	// dialectEvents is dialectAWX with positions.
	dialectEvents dialect = "events"
	// dialectPlain is subscribed by its URL alone (nchan).
	dialectPlain dialect = "plain"
)

// open performs the handshake on rw as client number place, joins its groups and returns the bytes received after
// that. The caller sets deadlines.
func open(rw io.ReadWriter, t target, place int) (rest []byte, err error) {
	if t.Dialect.isStream() {
		return openStream(rw, t, place)
	}
	cookie := "csrftoken=x"
	if t.Users > 0 {
		cookie += fmt.Sprintf("; awx_sessionid=user%d", place%t.Users+1)
	}
	request := "GET " + t.Path + " HTTP/1.1\r\nHost: " + t.Addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\nOrigin: http://" + t.Addr + "\r\nCookie: " +
		cookie + "\r\n"
	if t.Dialect == dialectEvents {
		request += "Sec-WebSocket-Protocol: edgerelay.events.v1\r\n"
	}
	if t.Deflate {
		request += deflateOffer
	}
	request += "\r\n"
	if _, err := io.WriteString(rw, request); err != nil {
		return nil, fmt.Errorf("write handshake: %w", err)
	}
	in := &inbox{r: rw}
	if err := in.response(); err != nil {
		return nil, err
	}
	if t.Dialect == dialectPlain {
		return in.buf, nil
	}
	if _, err := in.text([]byte(`"accept"`)); err != nil {
		return nil, fmt.Errorf("wait for accept: %w", err)
	}
	groups := t.groupsOf(place)
	if _, err := rw.Write(appendClientFrame(nil, opText, subscription(groups, t.Since))); err != nil {
		return nil, fmt.Errorf("write subscribe: %w", err)
	}
	reply, err := in.text([]byte(`"groups_current"`))
	if err != nil {
		return nil, fmt.Errorf("wait for groups_current: %w", err)
	}
	if last := groups[len(groups)-1]; !bytes.Contains(reply, []byte(last)) {
		return nil, fmt.Errorf("not in group %s after subscribing: %.200s", last, reply)
	}
	return in.buf, nil
}

// inbox holds received bytes that are not yet consumed.
type inbox struct {
	r   io.Reader
	buf []byte
}

func (in *inbox) more() error {
	var chunk [512]byte
	n, err := in.r.Read(chunk[:])
	in.buf = append(in.buf, chunk[:n]...)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// response reads a 101 response with the accept value for wsKey.
func (in *inbox) response() error {
	for {
		if i := bytes.Index(in.buf, []byte("\r\n\r\n")); i >= 0 {
			head := in.buf[:i]
			in.buf = in.buf[i+4:]
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(wsAccept)) {
				return fmt.Errorf("handshake refused: %.200q", head)
			}
			return nil
		}
		if len(in.buf) > 16<<10 {
			return errors.New("handshake answer is longer than 16 KiB")
		}
		if err := in.more(); err != nil {
			return fmt.Errorf("read handshake answer: %w", err)
		}
	}
}

// text reads frames up to the first text frame that contains want, and returns its payload.
func (in *inbox) text(want []byte) ([]byte, error) {
	for {
		f, n, err := parseFrame(in.buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			if err := in.more(); err != nil {
				return nil, err
			}
			continue
		}
		in.buf = in.buf[n:]
		if f.op == opClose {
			return nil, fmt.Errorf("closed by the server: %q", f.payload)
		}
		if f.op == opText && bytes.Contains(f.payload, want) {
			return f.payload, nil
		}
	}
}
