"""The faults tier: what may go wrong, one thing after the other, while two workers are at work."""
