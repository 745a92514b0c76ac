"""Side-by-side timings; none of this is needed to use the project."""
