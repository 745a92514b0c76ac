"""Settings, flags, errors, terminal, interrupts and files: the needs of every command."""
