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

// copyBuffers pools the buffers for copying to files.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, 32<<10)
	return &b
}}

// requestBody is a request body that has been read completely.
type requestBody struct {
	// source is the body of the request that was read; it identifies the request body in a further attempt.
	source io.ReadCloser
	memory []byte
	// file holds the bytes after memory; nil: all bytes are in memory.
	file *os.File
	size int64
	// present is set if the request has a body, even an empty one.
	present bool
	// ownedByContext is set if the body lives until the end of the request's context, for further attempts.
	ownedByContext bool

	closing sync.Once
}

// bodyVar is the Caddy variable that holds the body of a request between attempts.
const bodyVar = "edgerelay_uwsgi_body"

// readRequestBody reads the whole body of a request. After a failed dial, a further attempt gets the same body.
func (t *Transport) readRequestBody(r *http.Request) (*requestBody, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &requestBody{present: r.Header.Get("Content-Length") != ""}, nil
	}
	ctx := r.Context()
	if b, ok := caddyhttp.GetVar(ctx, bodyVar).(*requestBody); ok && b.source == r.Body {
		return b, nil
	}
	b := &requestBody{source: r.Body, present: true}
	if err := b.read(ctx, t, r.ContentLength); err != nil {
		b.close()
		return nil, err
	}
	r.Body.Close()
	if _, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		b.ownedByContext = true
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
	// Allocate in small steps: a client can announce a large body and send nothing.
	first := int64(8 << 10)
	if length >= 0 {
		// One byte more than length: Read then returns io.EOF without another allocation.
		first = min(first, length+1)
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

// spill appends p to the file, and creates the file for the first bytes.
func (b *requestBody) spill(t *Transport, p []byte) (err error) {
	if b.file == nil {
		if b.file, err = t.tempFile(&files.request); err != nil {
			return err
		}
	}
	_, err = b.file.Write(p)
	return err
}

// rewind prepares the body to be sent from the first byte.
func (b *requestBody) rewind() error {
	if b.file == nil {
		return nil
	}
	_, err := b.file.Seek(0, io.SeekStart)
	return err
}

// close closes the file. It may be called more than once and from any goroutine; a send in progress then fails.
func (b *requestBody) close() {
	b.closing.Do(func() {
		if b.file != nil {
			closeFile(b.file)
		}
	})
}
