"""Work from another server's queue: asked for, done as a job, and answered, whatever its outcome."""
