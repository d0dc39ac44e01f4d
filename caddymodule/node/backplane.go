package node

import (
	"context"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// applyBackplane makes the node's backplane follow the configuration: connections to peers stay as far as they can.
// n.mu is held.
func (n *Node) applyBackplane(config *Plane) error {
	plane := n.Plane.Load()
	if plane != nil && config != nil {
		ctx, cancel := context.WithTimeout(context.Background(), moveWait)
		defer cancel()
		plane.Refresh(ctx)
	}
	switch {
	case config == nil && plane == nil:
		return nil
	case config == nil:
		n.Plane.Store(nil)
		n.planeConfig = nil
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		return plane.Close(ctx)
	case plane == nil:
		plane, err := backplane.New(n.Hub, config.Settings, n.Log)
		if err != nil {
			return err
		}
		n.Plane.Store(plane)
		n.planeConfig = config
		plane.Start()
		return nil
	case n.planeConfig.Key == config.Key:
		return nil
	}
	if config.TLSKey == n.planeConfig.TLSKey {
		config.Settings.TLS = n.planeConfig.Settings.TLS
	}
	n.planeConfig = config
	return plane.Apply(config.Settings)
}
