"""A trace for each run, judged at a collector that reads what OpenTelemetry's own messages say."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from fleet.settings.hub import TracesSettings
from hub.queue.values import Finished
from hub.traces import Traces
from tests.waiting import until

DETAILS: dict[str, Any] = {"stages_ms": {"tunnel": 40, "load": 1500.5, "screenshot": 200}}


@contextmanager
def collector(
    status: int = 200, gate: threading.Event | None = None
) -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Its address, and what it was told; it answers once GATE is set."""
    told: list[ExportTraceServiceRequest] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            told.append(ExportTraceServiceRequest.FromString(gzip.decompress(body) if packed else body))
            if gate:
                gate.wait(60)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", told
        server.shutdown()


def spans(told: list[ExportTraceServiceRequest]) -> list[Any]:
    """All that the collector has."""
    scopes = [scope for one in told for resource in one.resource_spans for scope in resource.scope_spans]
    return [span for scope in scopes for span in scope.spans]


def test_a_run_is_a_trace_with_its_stages() -> None:
    """One after another inside the run, each as long as the worker said; a bad end is an error with its reason."""
    with collector() as (url, told):
        traces = Traces(TracesSettings(url=url), "one")
        traces.ended("w1101", Finished(job=7, fence=2, outcome="good", exit="seoul", details=DETAILS))
        traces.ended("w1102", Finished(job=8, fence=1, outcome="refused", error="403"))
        traces.close()
        until("both are told", lambda: len(spans(told)) == 5, 60)
        runs = [span for span in spans(told) if not span.parent_span_id]
        good, bad = sorted(runs, key=lambda span: span.status.code)
        stages = [span for span in spans(told) if span.parent_span_id == good.span_id]
        assert [span.name for span in stages] == ["tunnel", "load", "screenshot"]
        lasted = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 for span in stages]
        assert lasted == [40, 1500.5, 200]
        assert stages[0].start_time_unix_nano == good.start_time_unix_nano
        assert stages[-1].end_time_unix_nano == good.end_time_unix_nano
        assert {span.trace_id for span in stages} == {good.trace_id} != {bad.trace_id}
        about = {one.key: one.value.string_value or one.value.int_value for one in good.attributes}
        wanted = {"fleet.worker": "w1101", "fleet.job": 7, "fleet.fence": 2, "fleet.outcome": "good"}
        assert about == {**wanted, "fleet.exit": "seoul"}
        assert (bad.status.code, bad.status.message) == (2, "403")


@pytest.mark.parametrize("stages", [None, "x", [1], {"load": "x", "a" * 99: -1, "b": 1e99}, {"load": True}])
def test_a_worker_says_what_it_likes(stages: Any) -> None:
    """What is no time is no stage; the run is told all the same."""
    with collector() as (url, told):
        traces = Traces(TracesSettings(url=url), "one")
        traces.ended("w1101", Finished(job=1, fence=1, outcome="good", details={"stages_ms": stages}))
        traces.close()
        until("it is told", lambda: [span.name for span in spans(told) if not span.parent_span_id] == ["run"], 60)


def test_a_collector_that_fails_holds_nothing_up(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said in one line of the hub's log."""
    with collector(status=400) as (url, told):
        traces = Traces(TracesSettings(url=url), "one")
        traces.ended("w1101", Finished(job=1, fence=1, outcome="good"))
        traces.close()
        until("it was told", lambda: told, 60)
        until("it is over", lambda: not closing(), 60)
    assert "traces.failed" in "".join(capsys.readouterr())


def closing() -> list[threading.Thread]:
    """Who still sends what waited at a close."""
    return [one for one in threading.enumerate() if one.name == "traces"]


def test_a_collector_that_hangs_does_not_hold_up_the_end() -> None:
    """The hub ends while the collector has still not answered."""
    gate = threading.Event()
    with collector(status=400, gate=gate) as (url, told):
        traces = Traces(TracesSettings(url=url, timeout_seconds=50), "one")
        traces.ended("w1101", Finished(job=1, fence=1, outcome="good"))
        traces.close()
        assert closing(), "closed, and nothing answered"
        gate.set()
        until("it is over", lambda: not closing(), 60)
        assert len(told) == 1


@pytest.mark.parametrize("url", ["http://192.0.2.1/v1/traces", "ftp://127.0.0.1/", "127.0.0.1:4318"])
def test_nothing_goes_over_a_network_unencrypted(url: str) -> None:
    """http:// is for this host alone."""
    with pytest.raises(ValidationError, match="url"):
        TracesSettings(url=url)
