"""The queue: jobs in, runs out, each site as often as it bears it, over all hosts."""
