"""One tunnel for each worker: makes, keeps, repairs and ends it."""
