package jwt

import "context"

// Probe is the result of a look at the keys.
type Probe struct {
	// Keys is the number of usable keys, Skipped has the reasons for the others.
	Keys    int
	Skipped []error
	// Date is the header Date of the issuer's response; empty for fixed keys.
	Date string
	// Err is the error if the key set cannot be fetched.
	Err error
	// NoRules tells that no rule names a group.
	NoRules bool
}

// Probe fetches the key set once more, without changing the keys in use.
func (a *Authorizer) Probe(ctx context.Context) (p Probe) {
	p.NoRules = a.rules.Empty() && a.settings.GroupsClaim == ""
	if a.keys.url == "" {
		p.Keys = len(a.keys.keys)
		return p
	}
	keys, skipped, date, err := a.keys.download(ctx)
	p.Keys, p.Skipped, p.Date, p.Err = len(keys), skipped, date, err
	return p
}
