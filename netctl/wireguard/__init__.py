"""WireGuard devices: one contract, and a file for each backend that keeps it."""
