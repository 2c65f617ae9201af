"""The key pool: client files in, leases out."""
