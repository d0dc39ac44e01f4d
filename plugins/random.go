package plugins

import (
	"crypto/rand"
	chacha "math/rand/v2"
)

// randomize fills b with random bytes. In a call that is recorded, the record has them, too.
func (in *instance) randomize(b []byte) {
	if r := in.env.random; r != nil {
		r.read(b)
		return
	}
	_, _ = rand.Read(b) // never fails
	if r := in.own.record; r != nil {
		r.addRandom(b)
	}
}

// trialRandom are the random bytes of a trial: those that a sample gives, and then the same ones in each trial, so that
// a plugin does not differ from itself.
type trialRandom struct {
	given []byte
	then  *chacha.ChaCha8
}

func newTrialRandom() *trialRandom {
	return &trialRandom{then: chacha.NewChaCha8([32]byte([]byte("the random bytes of every trial.")))}
}

// give sets the bytes of the next readings.
func (r *trialRandom) give(b []byte) { r.given = b }

func (r *trialRandom) read(b []byte) {
	n := copy(b, r.given)
	r.given = r.given[n:]
	_, _ = r.then.Read(b[n:]) // never fails
}
