"""Work out of somebody else's queue: asked for, done as a job of ours, and answered, whatever it came to."""
