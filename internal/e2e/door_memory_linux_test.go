package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// kernelBytes is how many bytes the kernel holds for the relay's client sockets, overhead included. Those of the
// clients' own ends are not among them.
func kernelBytes(t *testing.T, r *peers.Relay) (sum int) {
	t.Helper()
	process, err := unix.PidfdOpen(r.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	port := r.URL[strings.LastIndex(r.URL, ":")+1:]
	for _, f := range files {
		number, _ := strconv.Atoi(f.Name())
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		name, err := unix.Getsockname(fd)
		if at, ok := name.(*unix.SockaddrInet4); err == nil && ok && fmt.Sprint(at.Port) == port {
			var info [9]uint32 // of linux/sock_diag.h
			size := uint32(unsafe.Sizeof(info))
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
				uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
			if errno != 0 {
				t.Fatal(errno)
			}
			const received, reserved, queued = 0, 4, 5
			sum += int(info[received] + info[reserved] + info[queued])
		}
		unix.Close(fd)
	}
	return sum
}

// heapBytes is how many bytes live on the relay's heap.
func heapBytes(t *testing.T, r *peers.Relay) int {
	t.Helper()
	heap, _, err := r.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return heap
}

// A client that does not read costs at most 1.5 MiB with the default queue, heap and kernel together, until it times
// out; then it is gone within seconds.
func TestMemoryOfClientsThatDoNotReadIsBounded(t *testing.T) {
	const clients = 60
	r := peers.StartRelay(t, doorSite("",
		"auth none\nlimits {\nconnections_per_user 0\nping 5s\nsilence 20s\n}", "edgerelay"))
	for range clients {
		raw, err := wstest.DialRaw(r.URL+"/websocket/", "csrftoken=t")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(raw.Close)
		if err := raw.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if err := raw.Subscribe("t", "jobs-summary"); err != nil {
			t.Fatal(err)
		}
	}
	heap, most := heapBytes(t, r), 0
	event := `"` + strings.Repeat("x", 298) + `"`
	open := func() (n int) {
		_, rest, _ := strings.Cut(fetch(t, r.Admin+"/metrics"), "\nedgerelay_connections ")
		_, _ = fmt.Sscan(rest, &n)
		return n
	}
	// Twice as many events as fill a queue: the rest is dropped, and the clients time out.
	for published := 0; published < 8000 && open() == clients; published += 200 {
		for range 200 {
			publishHTTP(t, r, "jobs-summary", event)
		}
		most = max(most, heapBytes(t, r)-heap+kernelBytes(t, r))
	}
	testkit.EventuallyWithin(t, patience, "the clients time out", func() error {
		if n := open(); n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
	if each := most / clients; each > 3<<19 {
		t.Errorf("a client that does not read costs %d KiB, want at most 1,536", each>>10)
	}
	t.Logf("%d KiB for each client that does not read", most/clients>>10)
	testkit.EventuallyWithin(t, patience/3, "the closed clients cost nothing any more", func() error {
		if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.PID())); err != nil || len(files) > 30 {
			return fmt.Errorf("%d descriptors are open, %v", len(files), err)
		}
		return nil
	})
}
