"""Root for a moment, then the worker. Imports the standard library alone."""
