package uwsgi

import (
	"errors"
	"io"
	"os"
	"sync"
)

// spool holds what came from a worker until the client takes it: in a ring in memory, and while that is full,
// in a file. One goroutine fills it, one reads it.
// See docs/decisions/uwsgi.md#why-does-a-response-go-through-a-ring-and-a-file
type spool struct {
	t *Transport
	// finish ends the exchange with the worker.
	finish func()

	// mu guards the fields below. What the region of a ring or file between two of them holds belongs to the
	// one goroutine that may move them on.
	mu      sync.Mutex
	changed sync.Cond

	ring        []byte
	start, held int

	// The bytes of the file are later ones than those of the ring, which takes none while the file holds any.
	file            *os.File
	offset, onDisk  int64
	broken          bool
	filling, closed bool
	err             error
}

// spool begins to read source. It calls finish when it has read all of it, or is closed.
func (t *Transport) spool(source io.Reader, finish func()) *spool {
	s := &spool{t: t, finish: finish, filling: true, ring: *t.rings.Get().(*[]byte)}
	s.changed.L = &s.mu
	go s.fill(source)
	return s
}

// fill reads the source to its end.
func (s *spool) fill(source io.Reader) {
	var scratch []byte
	var err error
	for err == nil {
		region, open := s.room()
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
		if !s.put(scratch[:n]) {
			break
		}
	}
	// Here the worker becomes free.
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling, s.err = false, err
	s.changed.Broadcast()
	s.release()
}

// room returns the part of the ring to read into next, or nil if the file is the place. It waits while there
// is no place, and open is false once the spool is closed.
func (s *spool) room() (region []byte, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		if s.onDisk == 0 && s.held < len(s.ring) {
			return s.region(), true
		}
		if !s.broken && s.onDisk < *s.t.ResponseDisk {
			return nil, true
		}
		s.changed.Wait()
	}
	return nil, false
}

// region is the free part of the ring that follows what it holds. The caller holds the lock.
func (s *spool) region() []byte {
	if s.held == 0 {
		s.start = 0
	}
	end := s.start + s.held
	if end < len(s.ring) {
		return s.ring[end:]
	}
	return s.ring[end-len(s.ring) : s.start]
}

// put appends to the file, or to the ring once the file is empty. It reports whether the spool is still open.
func (s *spool) put(p []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		switch {
		case s.closed:
			return false
		case s.onDisk == 0 && s.held < len(s.ring):
			n := copy(s.region(), p)
			s.held += n
			p = p[n:]
			s.changed.Broadcast()
		case !s.broken && s.onDisk < *s.t.ResponseDisk:
			p = p[s.write(p):]
		default:
			s.changed.Wait()
		}
	}
	return !s.closed
}

// write writes to the file, as far as it has room in one piece; the file is a ring, too. It gives the lock
// away meanwhile.
func (s *spool) write(p []byte) int {
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
		// The worker then has to wait for the client.
		s.broken = true
		files.failures.Add(1)
		if s.t.diskErrors.pass() {
			s.t.log.Error("uwsgi response not buffered on disk", "error", err, "remedy", "free space, or set temp_dir")
		}
		return 0
	}
	s.onDisk += int64(n)
	s.changed.Broadcast()
	return n
}

// errClosed is the error of reading a spool that was closed.
var errClosed = errors.New("uwsgi: answer was closed")

// Read implements [io.Reader].
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

// readFile reads from the file, in one piece. It gives the lock away meanwhile.
func (s *spool) readFile(p []byte) (int, error) {
	limit := *s.t.ResponseDisk
	n := min(int64(len(p)), s.onDisk, limit-s.offset)
	file, at := s.file, s.offset
	s.mu.Unlock()
	_, err := file.ReadAt(p[:n], at)
	s.mu.Lock()
	if err != nil {
		return 0, &failure{op: "reading the buffered answer", err: err}
	}
	s.offset = (s.offset + n) % limit
	s.onDisk -= n
	s.changed.Broadcast()
	return int(n), nil
}

// Close ends the answer, and the exchange with the worker if that still goes on.
func (s *spool) Close() error {
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	s.release()
	return nil
}

// release returns ring and file once neither goroutine needs them. The caller holds the lock.
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
