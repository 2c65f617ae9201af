"""Pure values: what the kernel should hold, and in which order to get there."""
