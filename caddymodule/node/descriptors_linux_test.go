package node

import (
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWithinFiles(t *testing.T) {
	for _, c := range []struct{ connections, files, want int }{
		{100_000, 0, 100_000},
		{0, 0, 0}, // no limit on files
		{100_000, 1024, 960},
		{0, 1024, 960},
		{500, 1024, 500},
		{100_000, 20_000, 19_375},
		{100_000, 1 << 20, 100_000},
		{100_000, 65_536, 64_512},
		{100_000, 40, 1},
		{0, math.MaxInt32, math.MaxInt32 - 1024},
	} {
		if got := limitConnections(c.connections, c.files); got != c.want {
			t.Errorf("%d connections, %d files: %d, want %d", c.connections, c.files, got, c.want)
		}
	}
}

func TestUsedFiles(t *testing.T) {
	n := min(maxDescriptors(), 3000)
	before := countDescriptors(0, n)
	var files []*os.File
	for range 1500 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if more := countDescriptors(0, n) - before; more < 1490 || more > 1510 { // others come and go in this process
		t.Errorf("%d more are in use, want 1500", more)
	}
	for _, f := range files[:1000] {
		f.Close()
	}
	if more := countDescriptors(0, n) - before; more < 490 || more > 510 {
		t.Errorf("%d more are in use, want 500", more)
	}
}

func TestCrowd(t *testing.T) {
	n, now := maxDescriptors(), time.Now()
	var c descriptorGuard
	c.active.Store(true)
	if !c.take(n, now) || c.active.Load() {
		t.Error("no room where nearly all is free, or still a crowd")
	}
	c.free = reservedDescriptors(n)/2 + 1
	for i, want := range []bool{true, true, false} {
		if c.take(n, now) != want {
			t.Errorf("file %d: room %v, want %v: two would have left enough, the third not", i, !want, want)
		}
	}
	if !c.take(n, now.Add(countInterval)) {
		t.Error("not counted again")
	}
	c.active.Store(true)
	last := firstLate(n) + 1
	if err := unix.Dup3(0, last, 0); err != nil {
		t.Fatal(err)
	}
	if !c.take(n, now.Add(2*countInterval)) || !c.active.Load() {
		t.Error("no room where nearly all is free, or the end of the crowd while a connection holds one of the last")
	}
	if err := unix.Close(last); err != nil {
		t.Fatal(err)
	}
	if !c.take(n, now.Add(3*countInterval)) || c.active.Load() {
		t.Error("no end of the crowd")
	}
}

func BenchmarkUsedFiles(b *testing.B) {
	n := maxDescriptors()
	for b.Loop() {
		countDescriptors(0, n)
	}
}
