package node

import (
	"context"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// applyBackplane applies the configuration of the backplane and keeps links to peers as far as possible. The caller
// holds n.mu.
func (n *Node) applyBackplane(config *Backplane) error {
	plane := n.Backplane.Load()
	if plane != nil && config != nil {
		ctx, cancel := context.WithTimeout(context.Background(), switchTimeout)
		defer cancel()
		plane.Refresh(ctx)
	}
	switch {
	case config == nil && plane == nil:
		return nil
	case config == nil:
		n.Backplane.Store(nil)
		n.backplaneConfig = nil
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		return plane.Close(ctx)
	case plane == nil:
		plane, err := backplane.New(n.Hub, config.Settings, n.Log)
		if err != nil {
			return err
		}
		n.Backplane.Store(plane)
		n.backplaneConfig = config
		plane.Start()
		return nil
	case n.backplaneConfig.Key == config.Key:
		return nil
	}
	if config.TLSKey == n.backplaneConfig.TLSKey {
		config.Settings.TLS = n.backplaneConfig.Settings.TLS
	}
	n.backplaneConfig = config
	return plane.Apply(config.Settings)
}
