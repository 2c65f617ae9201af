"""Starts as root, then becomes the worker. Imports only the standard library and a few files of fleet."""
