package webhttp

import "testing"

func TestPhases(t *testing.T) {
	type row [endIsTold + 1]phase // by input
	same := func(p phase) (r row) {
		for i := range r {
			r[i] = p
		}
		r[backendIsAway] = ended
		return r
	}
	with := func(p phase, changes map[input]phase) row {
		r := same(p)
		for in, to := range changes {
			r[in] = to
		}
		return r
	}
	lively := map[input]phase{
		backendDetaches: detaching, backendCloses: closed, backendDisconnects: ended, clientCloses: closing,
		clientLeaves: leaving, requestFails: leaving,
	}
	last := map[input]phase{endIsTold: ended, backendDisconnects: ended, requestFails: ended}
	want := map[phase]row{
		opening: with(opening, map[input]phase{backendAccepts: open, requestFails: ended, backendDisconnects: ended}),
		open:    with(open, lively),
		closed:  with(closed, lively),
		detaching: with(detaching, map[input]phase{
			endIsTold: detached, clientCloses: closing, clientLeaves: leaving, requestFails: leaving, backendDisconnects: ended,
		}),
		detached: with(detached, map[input]phase{
			clientCloses: ended, clientLeaves: ended, backendDisconnects: ended, requestFails: ended,
		}),
		closing: with(closing, last),
		leaving: with(leaving, last),
		ended:   same(ended),
	}
	for p := opening; p <= ended; p++ {
		for in := range input(len(row{})) {
			if got := p.after(in); got != want[p][in] {
				t.Errorf("phase %d after input %d: %d, want %d", p, in, got, want[p][in])
			}
		}
	}
}

// The backend is told of the end at most once, in whatever order the inputs come.
func TestEndIsToldOnce(t *testing.T) {
	var walk func(p phase, told, depth int)
	walk = func(p phase, told, depth int) {
		if told > 1 {
			t.Fatal("the backend was told twice")
		}
		if depth == 0 {
			return
		}
		for in := range endIsTold + 1 {
			n := told
			if in == endIsTold && p.tells() {
				n++
			}
			walk(p.after(in), n, depth-1)
		}
	}
	walk(opening, 0, 6)
}
