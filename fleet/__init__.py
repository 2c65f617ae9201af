"""The vocabulary every program shares; in operate/ the operator's program `fleet`."""

VERSION = "0.2.0"
"""The one place of the version: pyproject.toml, --version, reports and the change log agree with it (a test)."""
