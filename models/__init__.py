"""What the network is: backbones, weights, heads and which layers learn."""
