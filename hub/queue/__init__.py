"""The queue: jobs in, runs out; each site at its pace, over all hosts."""
