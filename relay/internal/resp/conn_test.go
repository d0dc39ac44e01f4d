package resp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// said is a connection on which the other side has said something and then nothing more.
type said struct {
	io.Reader
	written bytes.Buffer
}

func (s *said) Write(b []byte) (int, error)      { return s.written.Write(b) }
func (*said) Close() error                       { return nil }
func (*said) LocalAddr() net.Addr                { return nil }
func (*said) RemoteAddr() net.Addr               { return nil }
func (*said) SetDeadline(time.Time) error        { return nil }
func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }

func TestReplies(t *testing.T) {
	text := ">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n+OK\r\n*2\r\n$1\r\na\r\n:7\r\n-MOVED 1 h:1\r\n$-1\r\n"
	for name, r := range map[string]io.Reader{
		"in one piece":   strings.NewReader(text),
		"byte by byte":   iotest.OneByteReader(strings.NewReader(text)),
		"err at the end": iotest.DataErrReader(strings.NewReader(text)),
	} {
		t.Run(name, func(t *testing.T) {
			var pushed []string
			s := &said{Reader: r}
			c := resp.New(s, func(kind string, args [][]byte) {
				pushed = append(pushed, kind+" "+string(bytes.Join(args, []byte(" "))))
			})
			want := []string{"OK", "a 7"}
			for _, w := range want {
				got, err := c.Reply()
				if err != nil || string(bytes.Join(got, []byte(" "))) != w {
					t.Fatalf("%q, %v; want %q", got, err, w)
				}
			}
			if len(pushed) != 1 || pushed[0] != "smessage c hi" {
				t.Errorf("pushed %q", pushed)
			}
			var refused resp.Error
			if _, err := c.Reply(); !errors.As(err, &refused) || refused.Error() != "MOVED 1 h:1" {
				t.Errorf("%v", err)
			}
			if got, err := c.Reply(); err != nil || got[0] != nil {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := c.Reply(); !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
			err := c.Send(time.Second, []string{"A", ""}, []string{"é"})
			if err != nil || s.written.String() != "*2\r\n$1\r\nA\r\n$0\r\n\r\n*1\r\n$2\r\né\r\n" {
				t.Errorf("sent %q, %v", s.written.String(), err)
			}
		})
	}
}

func TestPushesBetweenReplies(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	var pushed []string
	c := resp.New(ours, func(kind string, keys [][]byte) {
		pushed = append(pushed, kind+":"+string(bytes.Join(keys, []byte(","))))
	})
	go func() {
		buf := make([]byte, 1024)
		n, _ := theirs.Read(buf)
		if string(buf[:n]) != "*1\r\n$4\r\nPING\r\n" {
			_ = theirs.Close()
			return
		}
		_, _ = theirs.Write([]byte(">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n"))
	}()
	reply, err := c.Do(5*time.Second, "PING")
	if err != nil || len(reply) != 1 || string(reply[0]) != "PONG" {
		t.Fatalf("%q, %v", reply, err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"invalidate:a,b", "invalidate:"}; !slices.Equal(pushed, want) {
		t.Errorf("pushed %q, want %q", pushed, want)
	}
}

func TestCompleteValues(t *testing.T) {
	const message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nab\r\n\r\n"
	for text, want := range map[string]bool{
		message: true, message + "*": true, ">" + message[1:]: true, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n": true,
		"": false, "*": false, "*3\r\n": false, message[:len(message)-1]: false, message[:12]: false, "+PONG\r\n": false, "*x\r\n": false,
		"*1\r\n$9223372036854775807\r\nx\r\n": false,
	} {
		c := resp.New(&said{Reader: strings.NewReader("+OK\r\n" + text)}, nil)
		if _, err := c.Reply(); err != nil { // reads all that there is
			t.Fatal(err)
		}
		if got := c.Complete(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Whatever a server sends, reading it ends, and takes no more memory than was sent.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "*2\r\n$1\r\na\r\n:7\r\n", ">2\r\n$1\r\na\r\n_\r\n", "%1\r\n$1\r\na\r\n*1\r\n#t\r\n", "$536870912\r\nx",
		"*536870912\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "!3\r\nERR\r\n", "-\r\n", "$-1\r\n", "*-1\r\n", ">0\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := resp.New(&said{Reader: bytes.NewReader(sent)}, func(string, [][]byte) {})
		for {
			_ = c.Complete()
			reply, err := c.Reply()
			var refused resp.Error
			if err != nil && !errors.As(err, &refused) {
				return
			}
			size := 0
			for _, e := range reply {
				size += len(e)
			}
			if size > len(sent) {
				t.Fatalf("%d bytes of %d", size, len(sent))
			}
		}
	})
}
