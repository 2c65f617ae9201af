"""Calls to servers of other people, by the host's own route: bounded in time and bytes, and read with care."""
