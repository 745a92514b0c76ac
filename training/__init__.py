"""How the network learns: the recipe, the phases and the run that joins them."""
