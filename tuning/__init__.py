"""The search: many trials on outputs of the frozen layers that are computed once."""
