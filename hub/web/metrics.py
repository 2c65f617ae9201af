"""`/metrics` for Prometheus: counters of ended runs, and values at the moment of the request.

A stage has no worker's name, and a worker has no histogram: with both, 64 workers would be thousands of lines. Times
are timestamps, because `time() - ...` in a rule keeps growing when the hub no longer answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet import VERSION
from fleet.machine.room import Room
from fleet.outcomes import ENDINGS
from hub.queue.values import Finished
from hub.web.cards import Fleet, Trouble
from hub.web.health import PRESSURES
from hub.web.view import Sight

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
STAGES = ("tunnel", "proof", "browser_start", "load", "search", "screenshot", "browser_end", "hand_in")
"""The stages of fleet.result. Names come from a worker: any other one is counted as `other`."""
WORKER_STATES = ("working", "busy", "away", "stopped", "resting", "waiting")
SITE_STATES = ("paused", "slowed", "running", "quiet")
WATCH_STATES = ("fresh", "late", "paused")
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_LOSSES = {"network_changed": "network_changed", "other_losses": "other"}


class Metrics:
    """The metrics of one life of a hub."""

    def __init__(self) -> None:
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        own = self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(namespace="fleet_hub", registry=own)
        self._runs = prometheus.Counter("fleet_runs", "Runs that have ended.", ["outcome"], registry=own)
        for outcome in ENDINGS:
            self._runs.labels(outcome)
        self._stages = prometheus.Histogram(
            "fleet_stage_seconds", "Stages of loops.", ["stage"], buckets=_BUCKETS, registry=own
        )
        self._lost = prometheus.Counter(
            "fleet_worker_requests_lost", "Requests that its browser lost.", ["worker", "why"], registry=own
        )

    def ended(self, worker: str, end: Finished) -> None:
        """Count a run of WORKER. Its details come from a worker: values that are not numbers are ignored."""
        self._runs.labels(end.outcome).inc()
        details = end.details or {}
        stages = details.get("stages_ms")
        for name, milliseconds in stages.items() if isinstance(stages, dict) else ():
            if isinstance(milliseconds, int | float) and milliseconds >= 0:
                self._stages.labels(name if name in STAGES else "other").observe(milliseconds / 1000)
        for field, why in _LOSSES.items():
            lost = details.get(field)
            self._lost.labels(worker, why).inc(lost if isinstance(lost, int) and lost > 0 else 0)

    def text(self, sight: Sight | None, room: Room) -> bytes:
        """The metrics as text, with those of SIGHT; None: the database does not answer."""
        seen = _Seen([*_of_host(sight, room), *(_of_fleet(sight) if sight else ())])
        return prometheus.generate_latest(self._registry) + prometheus.generate_latest(seen)


class _Seen(Collector):
    """The values of one moment."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


def _of_host(sight: Sight | None, room: Room) -> Iterator[Metric]:
    info = InfoMetricFamily("fleet_hub", "The hub's release.")
    info.add_metric([], {"version": VERSION})
    yield info
    yield _gauge("fleet_database_up", "Whether the database answers.", float(sight is not None))
    yield _gauge("fleet_disk_free_bytes", "Free space on the fullest of the hub's disks.", room.free_mebibytes << 20)
    yield _gauge("fleet_disk_needed_bytes", "With less free space no job begins.", room.least_mebibytes << 20)
    under = "database" if sight is None else sight.pressure
    yield _states("fleet_pressure", "What blocks work.", "reason", PRESSURES, [under])


def _of_fleet(sight: Sight) -> Iterator[Metric]:
    fleet, waits = sight.fleet, sight.backlog
    yield _gauge("fleet_last_good_timestamp_seconds", "When the last good result came.", fleet.last_good_at)
    yield _states("fleet_trouble", "What stops work.", "reason", get_args(Trouble)[1:], [fleet.trouble])
    yield from _of_workers(fleet)
    yield _gauge("fleet_programs_given_up", "Programs that supervisord has given up.", len(fleet.given_up))
    again = {one.name: one.again_at for one in fleet.given_up}
    yield _gauges("fleet_program_again_timestamp_seconds", "When it starts again.", "program", again)
    yield _states("fleet_sites", "Sites by state.", "state", SITE_STATES, sight.site_states)
    yield _states("fleet_watches", "Jobs that repeat.", "state", WATCH_STATES, [card.state for card in fleet.watches])
    queued = {"ready": waits.ready, "leased": waits.leased, "aside": waits.aside}
    yield _gauges("fleet_jobs", "Jobs that are not done.", "state", queued)
    yield _gauge("fleet_job_timestamp_seconds", "When the next job can begin, past or future.", sight.since)
    unsent = {"waiting": waits.unsent, "aside": waits.unsent_aside}
    yield _gauges("fleet_deliveries", "Results that have not arrived.", "state", unsent)
    yield _gauge("fleet_delivery_timestamp_seconds", "Since when the oldest delivery waits.", waits.unsent_since)
    yield _gauge("fleet_alerts", "Alerts that last.", waits.alerts)


def _of_workers(fleet: Fleet) -> Iterator[Metric]:
    last = {card.name: card.last_at for card in fleet.workers if card.last_at is not None}
    yield _gauges("fleet_worker_last_result_timestamp_seconds", "When its last run ended.", "worker", last)
    state = GaugeMetricFamily("fleet_worker_state", "1 for the state it is in.", labels=["worker", "state"])
    for card in fleet.workers:
        state.add_metric([card.name, card.state], 1)
    yield state


def _gauge(name: str, words: str, value: float | None) -> Metric:
    found = GaugeMetricFamily(name, words)
    if value is not None:
        found.add_metric([], value)
    return found


def _gauges(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    """One of VALUES for each LABEL."""
    made = GaugeMetricFamily(name, words, labels=[label])
    for one, value in values.items():
        made.add_metric([one], value)
    return made


def _states(name: str, words: str, label: str, known: Iterable[str], found: Sequence[str]) -> Metric:
    """How many of FOUND are each of KNOWN; every series always exists."""
    return _gauges(name, words, label, {one: found.count(one) for one in known})
