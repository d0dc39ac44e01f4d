package backplane

// BePlain makes a backplane that is not started yet behave like a relay without features.
func (b *Backplane) BePlain() { b.features = nil }

// BeUntimed makes a backplane that is not started yet behave like a relay before the feature timed.
func (b *Backplane) BeUntimed() { b.features = []string{featureResume, featureTypes} }
