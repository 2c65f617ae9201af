"""Checks results against alert rules; messages leave through the outbox."""
