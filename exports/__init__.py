"""A module for each format of an exported model, and the comparison that each must pass."""
