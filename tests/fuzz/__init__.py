"""Frames that no honest client sends, against the real server."""
