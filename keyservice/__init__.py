"""Speaks HTTP to a key service, under its own account, because the answers come from an untrusted server."""
