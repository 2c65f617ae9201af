"""The set-up of structured logs for every program.

A line is an event with a stable action name (`slot.sealed`, `page.loaded`) and bound context (worker,
loop, stage, run). Terminals get readable lines, everything else one JSON object per line. Programs log
to standard error and write no log files: supervisord writes those.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import Any, cast

from fleet import visible
from fleet.imports import absent

with absent("rich"):  # for tracebacks in colours, which are not wanted here
    import structlog


class _Stderr:
    """Writes to the current sys.stderr, and ignores errors once its reader is gone.

    After supervisord's end every write raises BrokenPipeError; a log line must not end a clean-up.
    """

    def write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stderr.write(visible.lines(text))

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stderr.flush()


_FIRST = ("timestamp", "level", "program", "worker", "loop", "stage", "event")
"""The fields that a reader of `tail -f` looks for; they come before the event's own."""


def _in_order(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def _in_a_line(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """On a terminal no value may begin a new line, which would look like another event."""
    return {name: visible.line(value) if isinstance(value, str) else value for name, value in event.items()}


def _json(event: structlog.typing.EventDict, **usual: Any) -> str:
    return visible.json(json.dumps(event, ensure_ascii=False, **usual))


def configure(*, debug: bool = False) -> None:
    """Send every log line of this process to standard error. Call once, at program start."""
    terminal = sys.stderr.isatty()
    # Tracebacks here and below are without local variables, which may hold private keys.
    renderer: structlog.typing.Processor = (
        # Without colours, so that no line has an escape sequence.
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.set_exc_info if terminal else _TRACEBACKS,
            *([_in_a_line] if terminal else [_in_order]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(file=_Stderr()),  # type: ignore[arg-type]
    )


Logger = structlog.typing.FilteringBoundLogger


def get(program: str) -> Logger:
    """The logger of one program or part; bind context with `.bind(...)` or `bound(...)`."""
    return cast(Logger, structlog.get_logger(program=program))


bind = structlog.contextvars.bind_contextvars
bound = structlog.contextvars.bound_contextvars
