"""One tunnel for each worker: made, kept, mended and ended."""
