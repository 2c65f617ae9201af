"""The key pool: imports client files, leases keys."""
