"""Imports a library without its optional dependencies, which would take most of a program's start time.

`tests/unit/test_imports.py` says what each program must not have imported.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Inside the block the packages NAMES seem not to be installed, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    # None in sys.modules makes an import fail (Python's import system, "The module cache").
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def bare(package: str) -> Iterator[None]:
    """From here on modules of PACKAGE can be imported without its __init__, which would import all of them."""
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        assert spec
        sys.modules[package] = importlib.util.module_from_spec(spec)
    yield
