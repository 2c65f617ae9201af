"""Deliveries to targets: stored with the end of the run, sent a few at a time, at least once."""
