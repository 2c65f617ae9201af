"""Imports of a library without what it would import beside it: that is most of the time in which a program starts.

`tests/unit/test_imports.py` says what each program must not have imported.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Inside the block the packages of NAMES are as if they were not installed, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    # None is Python's own word for it (the import system, "The module cache").
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def bare(package: str) -> Iterator[None]:
    """From here on modules of PACKAGE can be imported without its own code, which would import all of them."""
    if package not in sys.modules:
        spec = importlib.util.find_spec(package)
        assert spec
        sys.modules[package] = importlib.util.module_from_spec(spec)
    yield
