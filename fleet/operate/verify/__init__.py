"""`fleet verify`: proof, on the user's own machine, that nothing of a worker goes past its tunnel."""
