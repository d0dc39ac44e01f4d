package redis

import goredis "github.com/redis/go-redis/v9"

// Clients returns a client for each host, as a Broker uses it. They connect when they are used; the caller closes them.
func (s Settings) Clients() ([]*goredis.Client, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var clients []*goredis.Client
	for _, url := range s.URLs {
		o, err := options(url)
		if err != nil {
			return nil, err
		}
		clients = append(clients, goredis.NewClient(o))
	}
	return clients, nil
}

// Peak is the most messages that ever waited for this node at once.
func (b *Broker) Peak() int { return int(b.peak.Load()) }
