package uwsgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// copyBuffers are for copying to and from files.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, 32<<10)
	return &b
}}

// requestBody is a request body that has been read completely.
type requestBody struct {
	// source is the body that was read.
	source io.ReadCloser
	memory []byte
	// file holds what follows memory; nil: nothing.
	file *os.File
	size int64
	// known tells that the request has a body, if only an empty one.
	known bool
	// kept tells that the request's context owns the body, and may offer it to a further attempt.
	kept bool

	closing sync.Once
}

// bodyVar is the variable of a Caddy request that holds its body between attempts.
const bodyVar = "edgerelay_uwsgi_body"

// requestBody reads the request's body, unless an attempt on another upstream has done so.
func (t *Transport) requestBody(r *http.Request) (*requestBody, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &requestBody{known: r.Header.Get("Content-Length") != ""}, nil
	}
	ctx := r.Context()
	if b, ok := caddyhttp.GetVar(ctx, bodyVar).(*requestBody); ok && b.source == r.Body {
		return b, nil
	}
	b := &requestBody{source: r.Body, known: true}
	if err := b.read(ctx, t, r.ContentLength); err != nil {
		b.close()
		return nil, err
	}
	r.Body.Close()
	if _, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		b.kept = true
		caddyhttp.SetVar(ctx, bodyVar, b)
		context.AfterFunc(ctx, b.close)
	}
	return b, nil
}

// read reads the source to its end, into memory and then into a file.
func (b *requestBody) read(ctx context.Context, t *Transport, length int64) error {
	limit := t.RequestMemory + *t.RequestDisk
	tooLarge := &rejection{
		http.StatusRequestEntityTooLarge,
		fmt.Errorf("request body exceeds %d bytes; raise request_disk", limit),
	}
	if length > limit {
		return tooLarge
	}
	// A client that announces much has sent nothing yet.
	first := int64(8 << 10)
	if length >= 0 {
		first = min(first, length+1) // with room to find the end
	}
	b.memory = make([]byte, 0, min(first, t.RequestMemory))
	for {
		if len(b.memory) == cap(b.memory) {
			if int64(cap(b.memory)) >= t.RequestMemory {
				break
			}
			grown := make([]byte, len(b.memory), min(2*int64(cap(b.memory))+1, t.RequestMemory))
			copy(grown, b.memory)
			b.memory = grown
		}
		n, err := b.source.Read(b.memory[len(b.memory):cap(b.memory)])
		b.memory = b.memory[:len(b.memory)+n]
		b.size += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bodyError(ctx, err)
		}
	}
	pooled := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(pooled)
	for {
		n, err := b.source.Read(*pooled)
		if n > 0 {
			if b.size += int64(n); b.size > limit {
				return tooLarge
			}
			if err := b.spill(t, (*pooled)[:n]); err != nil {
				files.failures.Add(1)
				return diskError(err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bodyError(ctx, err)
		}
	}
}

// spill appends to the file.
func (b *requestBody) spill(t *Transport, p []byte) (err error) {
	if b.file == nil {
		if b.file, err = t.tempFile(&files.request); err != nil {
			return err
		}
	}
	_, err = b.file.Write(p)
	return err
}

// rewind makes the body ready to be sent, from its first byte.
func (b *requestBody) rewind() error {
	if b.file == nil {
		return nil
	}
	_, err := b.file.Seek(0, io.SeekStart)
	return err
}

// close releases memory and file. It may be called more than once, at any time: a send under way fails.
func (b *requestBody) close() {
	b.closing.Do(func() {
		if b.file != nil {
			closeFile(b.file)
		}
	})
}
