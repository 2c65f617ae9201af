"""Sends a trace of each run to an OpenTelemetry collector: the run with its stages, one after another.

The library is optional, and has its own thread: a slow or dead collector blocks nothing, but some traces may then
be missing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from fleet import VERSION, log
from fleet.errors import ConfigurationError
from fleet.outcomes import OK
from fleet.settings.hub import TracesSettings
from hub.queue.values import Finished

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_MOST_STAGES = 20
_CLOSE_SECONDS = 3.0


class Traces:
    """The traces of one life of a hub on HOST. Raises ConfigurationError without the library."""

    def __init__(self, settings: TracesSettings, host: str) -> None:
        self._provider = _provider(settings, host)
        self._tracer = self._provider.get_tracer("fleet")

    def ended(self, worker: str, end: Finished) -> None:
        """Send a run of WORKER that ends now. Its details come from a worker: values that are not times are ignored."""
        from opentelemetry import trace

        details = end.details or {}
        stages, now = list(_stages(details)), time.time_ns()
        moment = now - sum(lasted for _, lasted in stages)
        about: dict[str, str | int] = {"worker": worker, "job": end.job, "fence": end.fence, "outcome": end.outcome}
        about |= {"exit": end.exit} if end.exit else {}
        named = {f"fleet.{name}": value for name, value in about.items()}
        run = self._tracer.start_span("run", start_time=moment, attributes=named)
        if end.outcome not in OK:
            run.set_status(trace.StatusCode.ERROR, end.error or end.outcome)
        for name, lasted in stages:
            stage = self._tracer.start_span(name, trace.set_span_in_context(run), start_time=moment)
            stage.end(moment := moment + lasted)
        run.end(now)

    def close(self) -> None:
        """Send the rest within _CLOSE_SECONDS, because the library itself does not respect a time limit."""
        last = threading.Thread(target=self._provider.force_flush, name="traces", daemon=True)
        last.start()
        last.join(_CLOSE_SECONDS)


def _stages(details: Mapping[str, JsonValue]) -> Iterator[tuple[str, int]]:
    """Each stage's name and nanoseconds."""
    found = details.get("stages_ms")
    for name, milliseconds in list(found.items())[:_MOST_STAGES] if isinstance(found, dict) else ():
        if isinstance(milliseconds, int | float) and 0 <= milliseconds < 1e8:
            yield name[:50], int(milliseconds * 1e6)


def _provider(settings: TracesSettings, host: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigurationError(
            "hub.traces: OpenTelemetry needs a library that is not installed", hint="sudo bin/setup --extras"
        ) from None
    logging.getLogger("opentelemetry").handlers = [_Said(logging.ERROR)]
    about = {"service.name": "fleet", "service.version": VERSION, "host.name": host}
    provider = TracerProvider(resource=Resource(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=settings.url, headers={}, timeout=settings.timeout_seconds)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _Said(logging.Handler):
    """Logs the library's messages about undelivered traces in the hub's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log.get("hub").warning("traces.failed", reason=record.getMessage()[:500])
