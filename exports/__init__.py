"""A module for each export format, and the comparison that every export must pass."""
