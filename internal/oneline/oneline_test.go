package oneline

import (
	"errors"
	"io"
	"testing"
)

func TestJoin(t *testing.T) {
	if Join() != nil || Join(nil, nil) != nil {
		t.Error("no errors are an error")
	}
	if err := Join(nil, io.EOF); err != io.EOF {
		t.Errorf("one error is %v", err)
	}
	err := Join(errors.New("a"), nil, errors.Join(errors.New("b"), io.EOF))
	if err.Error() != "a; b; EOF" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, and EOF in it: %t", err, errors.Is(err, io.EOF))
	}
}
