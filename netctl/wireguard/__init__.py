"""WireGuard devices: one contract, and a file for each backend that implements it."""
