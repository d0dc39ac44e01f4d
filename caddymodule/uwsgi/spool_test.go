package uwsgi

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
)

func disk(n int64) *int64 { return &n }

// pattern returns n pseudo-random bytes, so that misplaced bytes are detected.
func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.NewPCG(1, 2)
	for i := range b {
		b[i] = byte(r.Uint64())
	}
	return b
}

// The bytes arrive in order through memory and file, whether worker or client is slower.
func TestSpoolKeepsOrder(t *testing.T) {
	data := pattern(1 << 20)
	for name, transport := range map[string]*Transport{
		"memory":             {ResponseMemory: 64 << 10, ResponseDisk: disk(0)},
		"a byte of memory":   {ResponseMemory: 1, ResponseDisk: disk(50_000)},
		"a small file":       {ResponseMemory: 1000, ResponseDisk: disk(7777)},
		"a large file":       {ResponseMemory: 1000, ResponseDisk: disk(1 << 30)},
		"no place for files": {ResponseMemory: 1000, ResponseDisk: disk(1 << 30), TempDir: t.TempDir()},
	} {
		for _, slow := range []string{"neither", "worker", "client", "both"} {
			t.Run(name+", slow: "+slow, func(t *testing.T) {
				tr := provisioned(t, &Transport{
					ResponseMemory: transport.ResponseMemory,
					ResponseDisk:   transport.ResponseDisk, TempDir: transport.TempDir,
				})
				if tr.TempDir != "" {
					tr.TempDir = filepath.Join(tr.TempDir, "absent")
				}
				var source io.Reader = bytes.NewReader(data)
				if slow == "worker" || slow == "both" {
					source = &hesitant{Reader: source, rand: rand.New(rand.NewPCG(3, 4))}
				}
				var finished sync.Once
				done := make(chan struct{})
				s := tr.spool(source, func() { finished.Do(func() { close(done) }) })
				var client io.Reader = s
				if slow == "client" || slow == "both" {
					client = &hesitant{Reader: client, rand: rand.New(rand.NewPCG(5, 6))}
				}
				got, err := io.ReadAll(client)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d of %d bytes are right (%v)", countCommonPrefix(got, data), len(data), err)
				}
				<-done
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// hesitant reads a random number of bytes, and sometimes yields to other goroutines.
type hesitant struct {
	io.Reader
	rand *rand.Rand
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.rand.IntN(8) == 0 {
		runtime.Gosched()
	}
	return h.Reader.Read(p[:1+h.rand.IntN(min(len(p), 4000))])
}

func countCommonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// A worker is free before the client has read a byte, and the file has no name.
func TestSpoolFreesTheWorker(t *testing.T) {
	dir := t.TempDir()
	transport := provisioned(t, &Transport{ResponseMemory: 1000, TempDir: dir})
	finished := make(chan struct{})
	var once sync.Once
	data := pattern(1 << 20)
	s := transport.spool(bytes.NewReader(data), func() { once.Do(func() { close(finished) }) })
	<-finished
	if n := ReadFileStats().OpenFiles; n != 1 {
		t.Errorf("%d open files are counted", n)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files with a name: %v (%v)", entries, err)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	s.Close()
	if n := ReadFileStats().OpenFiles; n != 0 {
		t.Errorf("%d open files are counted at the end", n)
	}
}

// When file and memory are full, the worker waits. Close ends the wait.
func TestSpoolHoldsBack(t *testing.T) {
	transport := provisioned(t, &Transport{ResponseMemory: 1000, ResponseDisk: disk(40_000)})
	in, out := io.Pipe()
	s := transport.spool(in, func() { in.Close() })
	written := make(chan int)
	go func() {
		total := 0
		for {
			n, err := out.Write(make([]byte, 1000))
			if total += n; err != nil {
				written <- total
				return
			}
		}
	}()
	s.mu.Lock()
	for s.onDisk < 40_000 {
		s.changed.Wait()
	}
	s.mu.Unlock()
	p := make([]byte, 500)
	if n, err := io.ReadFull(s, p); err != nil {
		t.Errorf("%d bytes (%v)", n, err)
	}
	s.Close()
	s.Close()
	// All written bytes are in the spool or in the one buffer between pipe and file.
	if n := <-written; n > 41_000+500+32<<10+1000 {
		t.Errorf("%d bytes were taken", n)
	}
	if _, err := s.Read(p); err == nil {
		t.Error("a closed response can be read")
	}
}

func TestSpoolPassesErrorsOn(t *testing.T) {
	transport := provisioned(t, &Transport{})
	broken := errors.New("broken")
	s := transport.spool(io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(broken)), func() {})
	defer s.Close()
	got, err := io.ReadAll(s)
	if string(got) != "abc" || !errors.Is(err, broken) {
		t.Errorf("got %q, %v", got, err)
	}
}
