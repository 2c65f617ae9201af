"""Health as pure functions: who is quiet, who is dead, what is tried next, and who is put aside for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netctl.slots import health
from netctl.slots.health import Aside, Pulse, Step, Verdict, next_step


def verdicts(*readings: tuple[float, int, int]) -> list[Verdict]:
    """What the readings (seconds, sent, received) of one tunnel say, one after the other."""
    pulse = Pulse(keepalive_seconds=25)
    return [pulse.look(*reading) for reading in readings]


def test_a_tunnel_that_hears_back_is_fine() -> None:
    """Sending and receiving, for as long as it may be since the last handshake."""
    assert set(verdicts(*((5.0 * n, 1000 * n, 9000 * n) for n in range(100)))) == {Verdict.FINE}


def test_an_idle_tunnel_is_never_suspected() -> None:
    """Keepalives have no answer: an hour of them and of nothing else is fine."""
    readings = ((5.0 * n, 32 * (5 * n // 25), 0) for n in range(720))
    assert set(verdicts(*readings)) == {Verdict.FINE}


def test_one_that_sends_and_hears_nothing_is_quiet_then_dead() -> None:
    """Quiet at the first look that sees it, dead at 15 s, fine again with the first byte it hears."""
    quiet = [(0.0, 0, 500), (5.0, 96, 500), (10.0, 192, 500), (15.0, 192, 500)]
    assert verdicts(*quiet) == [Verdict.FINE, Verdict.QUIET, Verdict.QUIET, Verdict.DEAD]
    assert verdicts(*quiet, (16.0, 300, 600))[-1] is Verdict.FINE


def test_a_device_made_anew_begins_anew() -> None:
    """Counters that fall back are a new device's, not silence."""
    assert verdicts((0.0, 10_000, 500), (5.0, 11_000, 500), (10.0, 0, 0))[-1] is Verdict.FINE


def test_a_probe_that_was_answered_ends_the_suspicion() -> None:
    """A handshake is a sign of life as good as a byte."""
    pulse = Pulse(keepalive_seconds=25)
    for reading in ((0.0, 0, 0), (5.0, 500, 0)):
        pulse.look(*reading)
    pulse.revived()
    assert pulse.verdict(100.0) is Verdict.FINE


def test_the_next_step_follows_from_who_answers_others() -> None:
    """A key of a working server is refused: another key. A silent server: another. Neither explains it: the device."""
    nobody, one = frozenset[str](), frozenset({"vpn1"})
    assert next_step(["vpn1"], one) is Step.OTHER_KEY
    assert next_step(["vpn1"], nobody) is Step.OTHER_SERVER
    assert next_step(["vpn2", "vpn3"], one) is Step.OTHER_SERVER
    assert next_step(["vpn2", "vpn1"], one) is Step.NEW_DEVICE
    assert next_step(["vpn1", "vpn1"], one) is Step.OTHER_KEY
    assert next_step(["vpn1", "vpn2", "vpn3"], nobody) is Step.NEW_DEVICE


def test_a_server_is_put_aside_for_longer_each_time_and_comes_back() -> None:
    """10, 20, 40 s ... never over 10 minutes; it ends by itself; an answer starts it at 10 s again."""
    aside = Aside(random=lambda: 0.5)
    times = [aside.failed("vpn1", 0.0) for _ in range(9)]
    assert times == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert "vpn1" in aside.until(599.0)
    assert "vpn1" not in aside.until(601.0)
    aside.worked("vpn1")
    assert aside.failed("vpn1", 0.0) == 10


@given(st.floats(0, 1))
def test_no_two_come_back_at_once(number: float) -> None:
    """The time is spread by a fifth either way."""
    assert 8 <= Aside(random=lambda: number).failed("vpn1", 0.0) <= 12


def test_a_probe_fits_between_two_looks() -> None:
    """The times are in the order that the verdicts rest on."""
    assert health.PROBE_SECONDS < health.LOOK_SECONDS < health.DEAD_SECONDS
