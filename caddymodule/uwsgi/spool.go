package uwsgi

import (
	"errors"
	"io"
	"os"
	"sync"
)

// spool buffers a response body between the worker and the client: in a ring in memory and, while the ring is full, in
// a file. One goroutine fills the spool, and another reads.
// See docs/decisions/uwsgi.md#why-does-a-response-go-through-a-ring-and-a-file
type spool struct {
	t *Transport
	// finish ends the exchange with the worker.
	finish func()

	// mu guards the fields below, but not the bytes of ring and file. The filling goroutine owns the free region, and
	// may write there without mu. The reading goroutine owns the filled region.
	mu      sync.Mutex
	changed sync.Cond

	ring        []byte
	start, held int

	// The file holds later bytes than the ring. While the file holds any, no bytes are added to the ring: order would
	// be lost.
	file            *os.File
	offset, onDisk  int64
	fileFailed      bool
	filling, closed bool
	err             error
}

// spool starts to read source in a goroutine. finish is called when source has ended, and on each Close.
func (t *Transport) spool(source io.Reader, finish func()) *spool {
	s := &spool{t: t, finish: finish, filling: true, ring: *t.rings.Get().(*[]byte)}
	s.changed.L = &s.mu
	go s.fill(source)
	return s
}

// fill reads source to its end, or until the spool is closed.
func (s *spool) fill(source io.Reader) {
	var scratch []byte
	var err error
	for err == nil {
		region, open := s.waitForRoom()
		if !open {
			break
		}
		n := 0
		if region != nil {
			n, err = source.Read(region)
			s.mu.Lock()
			s.held += n
			s.changed.Broadcast()
			s.mu.Unlock()
			continue
		}
		if scratch == nil {
			pooled := copyBuffers.Get().(*[]byte)
			defer copyBuffers.Put(pooled)
			scratch = *pooled
		}
		n, err = source.Read(scratch)
		if !s.store(scratch[:n]) {
			break
		}
	}
	// The worker becomes free here, however slow the client is.
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling, s.err = false, err
	s.changed.Broadcast()
	s.release()
}

// waitForRoom waits for free space. It returns the region of the ring to read into, or nil if the next bytes belong
// into the file. open is false once the spool is closed.
func (s *spool) waitForRoom() (region []byte, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		if s.onDisk == 0 && s.held < len(s.ring) {
			return s.freeRegion(), true
		}
		if !s.fileFailed && s.onDisk < *s.t.ResponseDisk {
			return nil, true
		}
		s.changed.Wait()
	}
	return nil, false
}

// freeRegion returns the contiguous free part of the ring after the filled part. The caller holds mu.
func (s *spool) freeRegion() []byte {
	if s.held == 0 {
		s.start = 0
	}
	end := s.start + s.held
	if end < len(s.ring) {
		return s.ring[end:]
	}
	return s.ring[end-len(s.ring) : s.start]
}

// store appends p to the file, or to the ring once the file is empty. It waits for free space, and reports whether the
// spool is still open.
func (s *spool) store(p []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		switch {
		case s.closed:
			return false
		case s.onDisk == 0 && s.held < len(s.ring):
			n := copy(s.freeRegion(), p)
			s.held += n
			p = p[n:]
			s.changed.Broadcast()
		case !s.fileFailed && s.onDisk < *s.t.ResponseDisk:
			p = p[s.writeFile(p):]
		default:
			s.changed.Wait()
		}
	}
	return !s.closed
}

// writeFile writes the beginning of p to the contiguous free part of the file, which is a ring, too. The caller holds
// mu, which is unlocked during the write.
func (s *spool) writeFile(p []byte) int {
	if s.onDisk == 0 {
		s.offset = 0
	}
	limit := *s.t.ResponseDisk
	at := (s.offset + s.onDisk) % limit
	n := int(min(int64(len(p)), limit-s.onDisk, limit-at))
	file := s.file
	s.mu.Unlock()
	var err error
	if file == nil {
		file, err = s.t.tempFile(&files.response)
	}
	if err == nil {
		_, err = file.WriteAt(p[:n], at)
	}
	s.mu.Lock()
	s.file = file
	if err != nil {
		// Without a file, the worker waits for the client.
		s.fileFailed = true
		files.failures.Add(1)
		if s.t.diskErrorLogs.allow() {
			s.t.log.Error("uwsgi response not buffered on disk", "error", err, "remedy", "free space, or set temp_dir")
		}
		return 0
	}
	s.onDisk += int64(n)
	s.changed.Broadcast()
	return n
}

// errClosed is returned by Read after Close.
var errClosed = errors.New("uwsgi: response body is closed")

// Read implements [io.Reader]. It waits for the first byte only.
func (s *spool) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.held == 0 && s.onDisk == 0 && s.filling && !s.closed {
		s.changed.Wait()
	}
	switch {
	case s.closed:
		return 0, errClosed
	case s.held > 0:
		n := 0
		for n < len(p) && s.held > 0 {
			part := copy(p[n:], s.ring[s.start:min(s.start+s.held, len(s.ring))])
			n += part
			s.held -= part
			s.start = (s.start + part) % len(s.ring)
		}
		s.changed.Broadcast()
		return n, nil
	case s.onDisk > 0:
		return s.readFile(p)
	}
	return 0, s.err
}

// readFile reads from the contiguous filled part of the file. The caller holds mu, which is unlocked during the read.
func (s *spool) readFile(p []byte) (int, error) {
	limit := *s.t.ResponseDisk
	n := min(int64(len(p)), s.onDisk, limit-s.offset)
	file, at := s.file, s.offset
	s.mu.Unlock()
	_, err := file.ReadAt(p[:n], at)
	s.mu.Lock()
	if err != nil {
		return 0, &failure{op: "reading the buffered response", err: err}
	}
	s.offset = (s.offset + n) % limit
	s.onDisk -= n
	s.changed.Broadcast()
	return int(n), nil
}

// Close implements [io.Closer]. It also ends the exchange with the worker.
func (s *spool) Close() error {
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	s.release()
	return nil
}

// release frees ring and file once neither goroutine uses them. The caller holds mu.
func (s *spool) release() {
	if s.filling || !s.closed || s.ring == nil {
		return
	}
	ring := s.ring
	s.ring = nil
	s.t.rings.Put(&ring)
	if s.file != nil {
		closeFile(s.file)
	}
}
