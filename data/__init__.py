"""The data to learn from: sources, preflight, splits and pipelines."""
