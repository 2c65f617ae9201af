"""What all programs share; operate/ is the operator's program `fleet`."""

VERSION = "0.2.0"
"""The version is defined here; a test checks that pyproject.toml, --version, reports and the change log agree."""
