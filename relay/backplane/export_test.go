package backplane

// BePlain makes a backplane that is not started yet behave like a relay without features.
func (b *Backplane) BePlain() { b.features = nil }

// BeUntimed makes a backplane that is not started yet behave like a relay before the feature timed.
func (b *Backplane) BeUntimed() { b.features = []string{featureResume, featureTypes} }

// Drop counts dropped events as a link does.
func (b *Backplane) Drop(reason string, n int) { b.stats.drop(fault(reason), n) }
