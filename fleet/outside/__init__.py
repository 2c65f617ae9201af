"""Calls to other people's servers over the host's own route, bounded in time and bytes and parsed with care."""
