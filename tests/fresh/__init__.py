"""The fresh tier: the README's first command on a Debian that has never seen this project."""
