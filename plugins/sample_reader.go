package plugins

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// maxSampleLine is the longest line of a file of samples in bytes.
const maxSampleLine = 32 << 20

// SampleReader reads a file of samples or a recording, one JSON object a line, without holding more than a sample. It
// also reads objects of several lines, and several samples in a line.
type SampleReader struct {
	lines *bufio.Scanner
	group string
	line  int    // where the current sample begins
	next  int    // lines read
	rest  []byte // of the line, after its first sample
	// Missed is the number of events that the recording lacks so far, because they arrived too fast.
	Missed int
}

// NewSampleReader returns a reader. group is the group of events that name none.
func NewSampleReader(r io.Reader, group string) *SampleReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSampleLine)
	return &SampleReader{lines: lines, group: group}
}

// Line returns the number of the line at which the sample that Next has read begins, from 1 on.
func (r *SampleReader) Line() int { return r.line }

// Next returns the next sample, io.EOF at the end, or an error that names the line.
func (r *SampleReader) Next() (Sample, error) {
	for {
		text, err := r.readText()
		if err == io.EOF {
			return Sample{}, err
		}
		var s Sample
		if err == nil {
			if n, ok := missedEvents(text); ok {
				r.Missed += n
				continue
			}
			s, err = ParseSample(text, r.group)
		}
		if err != nil {
			return s, fmt.Errorf("line %d: %w", r.line, err)
		}
		return s, nil
	}
}

// readText returns the text of the next sample or payload.
func (r *SampleReader) readText() ([]byte, error) {
	text := r.rest
	r.rest = nil
	if len(text) == 0 {
		var err error
		if text, err = r.readLine(); err != nil {
			return nil, err
		}
		r.line = r.next
		if isOpenObject(text) {
			if text, err = r.readObject(text); err != nil {
				return nil, err
			}
		}
	}
	// A line may have several samples. A payload that is followed by something else is no JSON, and stays whole.
	if object, rest, ok := loosejson.CutObject(text); ok && len(rest) > 0 {
		members, _ := loosejson.Members(object)
		if isSample, err := classifyLine(object, members, true); isSample || err != nil {
			text, r.rest = object, rest
		}
	}
	return text, nil
}

// readLine returns the next line that is not blank.
func (r *SampleReader) readLine() ([]byte, error) {
	for r.lines.Scan() {
		r.next++
		line := r.lines.Bytes()
		if r.next == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
	err := r.lines.Err()
	if err == nil {
		return nil, io.EOF
	}
	r.line = r.next + 1
	if errors.Is(err, bufio.ErrTooLong) {
		return nil, errTooLong
	}
	return nil, err
}

var errTooLong = fmt.Errorf("more than %d bytes; split the file into lines, a sample each", maxSampleLine)

// isOpenObject reports whether a line begins an object that goes on in the next line. Tools break lines behind certain
// characters; any other line without an end is a payload that is not JSON.
func isOpenObject(line []byte) bool {
	line = bytes.TrimSpace(line)
	if !bytes.HasPrefix(line, []byte("{")) || bytes.IndexByte([]byte("{,["), line[len(line)-1]) < 0 {
		return false
	}
	_, _, complete := loosejson.CutObject(line)
	return !complete
}

// readObject reads the further lines of the object that a line begins.
func (r *SampleReader) readObject(line []byte) ([]byte, error) {
	text := bytes.Clone(line)
	for {
		line, err := r.readLine()
		if err == io.EOF {
			return nil, errors.New("an object without end; write each sample into one line")
		}
		if err != nil {
			return nil, err
		}
		text = append(append(text, '\n'), line...)
		if len(text) > maxSampleLine {
			return nil, errTooLong
		}
		if end := bytes.TrimSpace(line); bytes.IndexByte([]byte("}{"), end[len(end)-1]) < 0 {
			continue // saves a search in each line of a long object
		}
		if _, _, ok := loosejson.CutObject(text); ok {
			return text, nil
		}
	}
}

// ReadSamples reads all samples of a file. group is the group of events that name none.
func ReadSamples(r io.Reader, group string) (samples []Sample, err error) {
	for lines := NewSampleReader(r, group); ; {
		s, err := lines.Next()
		if err == io.EOF {
			return samples, nil
		}
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", len(samples)+1, err)
		}
		samples = append(samples, s)
	}
}

// missedEvents reads the line of a recording that stands for events that are missing.
func missedEvents(line []byte) (n int, ok bool) {
	if !bytes.Contains(line, []byte(`"dropped"`)) {
		return 0, false
	}
	members, ok := loosejson.Members(line)
	if !ok || len(members) > 3 {
		return 0, false
	}
	for _, m := range members {
		switch m.Name {
		case "at", "group":
		case "dropped":
			if json.Unmarshal(m.Value, &n) != nil || n <= 0 {
				return 0, false
			}
		default:
			return 0, false
		}
	}
	return n, n > 0
}
