"""The vocabulary every program shares, and the operator's program `fleet`."""
