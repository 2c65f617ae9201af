"""Exit addresses of keys: netctl's own check through a tunnel, and what it accepts of the workers' reports."""
