package backplane

// BePlain makes a backplane that is not started yet behave like a relay without features.
func (b *Backplane) BePlain() { b.plain = true }
