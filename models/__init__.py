"""The network: backbones, weights, heads, and which layers learn."""
