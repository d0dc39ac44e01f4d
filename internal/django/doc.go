// Package django tests the relay in place of the consumers of Django sites: one script for each site runs against
// Daphne and against the relay, and both have to say the same, byte for byte. The sites are those of examples/django,
// and the small ones of testdata/pushonly.
package django
