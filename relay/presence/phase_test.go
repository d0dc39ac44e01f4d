package presence

import "testing"

func TestPhases(t *testing.T) {
	for _, c := range []struct {
		name    string
		from    phase
		outcome outcome
		want    phase
	}{
		{"registration", unregistered, done, comparing},
		{"registration fails", unregistered, failed, unregistered},
		{"comparison", comparing, done, current},
		{"comparison fails", comparing, failed, unregistered},
		{"the store is emptied during the comparison", comparing, refused, unregistered},
		{"change", current, done, current},
		{"reply lost", current, failed, unregistered},
		{"lease ended or store emptied", current, refused, unregistered},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.from.next(c.outcome); got != c.want {
				t.Errorf("%v after outcome %d: got %v, want %v", c.from, c.outcome, got, c.want)
			}
		})
	}
}
