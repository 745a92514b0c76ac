"""What the network learns from: sources, preflight, splits and pipelines."""
