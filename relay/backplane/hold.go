package backplane

type refill struct{}

func (s *stream) hold(*event) bool { return false }
