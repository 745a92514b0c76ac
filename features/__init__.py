"""Computes the frozen part of a network once."""
