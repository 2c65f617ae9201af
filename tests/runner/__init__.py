"""What bin/test does: which tests run together, where, and what is said about them. Standard library only.

It runs on the machine's own Python, before the tests' environment is there.
"""
