"""How the search goes: many trials on what the frozen layers made of the examples once."""
