package redisnet

import goredis "github.com/redis/go-redis/v9"

// Clients returns a pooled client for each host, configured as for a layer, and a function that closes them. They
// connect when they are used.
func (h Hosts) Clients() (clients []*goredis.Client, closeAll func(), err error) {
	routes, err := h.routes()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range routes {
		clients = append(clients, r.client)
	}
	return clients, func() {
		for _, r := range routes {
			r.close()
		}
	}, nil
}
