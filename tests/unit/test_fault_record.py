"""The fault tier's own evaluation: it recognises a foreign exit, a silence and a return."""

from __future__ import annotations

from tests.faults.record import STREAK, Exchange, Held, Record

FIRST, SECOND = "203.0.113.11", "203.0.113.12"


def exchange(began: float, seen: str | None = FIRST) -> Exchange:
    """An exchange of 10 ms."""
    return Exchange(began=began, ended=began + 0.01, seen=seen, error="" if seen else "timed out", tries=round(began))


def record(*exchanges: Exchange) -> Record:
    """A stream that was given the first exit at 0 s, and the second between 10.0 s and 10.5 s."""
    leases = [
        Held(lease="a", exit=FIRST, asked=0.0, answered=0.5),
        Held(lease="b", exit=SECOND, asked=10.0, answered=10.5),
    ]
    return Record(exchanges=list(exchanges), leases=leases)


def test_an_exit_of_no_lease_is_seen() -> None:
    """Found: an unassigned address, the next exit before it was requested, the old exit after the new one came."""
    for wrong in (exchange(5, "198.51.100.10"), exchange(5, SECOND), exchange(11, FIRST)):
        assert len(record(exchange(5), wrong, exchange(11, SECOND)).wrong_exits(0)) == 1
        assert record(wrong).wrong_exits(wrong.began + 1) == []


def test_during_a_rotation_either_exit_is_right() -> None:
    """Between request and answer an exchange may use either exit."""
    assert record(exchange(10.2, FIRST), exchange(10.2, SECOND), exchange(9.995, SECOND)).wrong_exits(0) == []


def test_a_silence_is_as_long_as_nothing_gets_through() -> None:
    """Failures and exchanges outside the window do not count; a stream that never answers is silent all the time."""
    told = record(exchange(1), exchange(2, None), exchange(3, None), exchange(4), exchange(9))
    assert 2.9 < told.gap(1, 4.5) < 3.1
    assert told.gap(5, 8) == 3
    assert record().gap(1, 8) == 7


def test_a_stream_goes_again_with_a_streak_that_lasts_until_now() -> None:
    """The return is the first success of the final unbroken streak; only exchanges begun after the moment count."""
    streak = [exchange(6 + number / 10) for number in range(STREAK)]
    told = record(exchange(4), exchange(5, None), *streak)
    assert told.flows_since(3) == streak[0].ended
    assert told.flows_since(6.05) is None
    assert record(*streak, exchange(8, None)).flows_since(3) is None


def test_tries_are_counted_between_two_moments() -> None:
    """The counter only grows, so the difference counts."""
    assert record(exchange(1), exchange(3), exchange(9)).tries(2, 10) == 6
