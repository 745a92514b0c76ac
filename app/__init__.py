"""What every command needs: settings, flags, errors, terminal, interrupts, files."""
