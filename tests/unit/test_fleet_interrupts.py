"""Ctrl-C, SIGTERM and a closed terminal are one exception, raised once, and never while something is cleaned up."""

from __future__ import annotations

import signal

import pytest

from fleet.machine.interrupts import Interrupts, Stopped, deferred

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_ends_the_program_and_the_next_ones_do_not(number: signal.Signals) -> None:
    """Stopped names the signal; signals that come while the program ends raise nothing."""
    with Interrupts():
        with pytest.raises(Stopped) as caught:
            signal.raise_signal(number)
        for again in NUMBERS:
            signal.raise_signal(again)
    assert caught.value.exit_code == 128 + number


@pytest.mark.parametrize("number", NUMBERS)
def test_a_clean_up_is_not_interrupted(number: signal.Signals) -> None:
    """Within shield() a signal raises nothing; after it the next one does."""
    with Interrupts() as interrupts:
        with interrupts.shield():
            signal.raise_signal(number)
        with pytest.raises(Stopped):
            signal.raise_signal(number)


def test_a_deferred_signal_comes_after_the_block() -> None:
    """A signal within deferred() is raised at the end of the block, after the block's own work."""
    done = []
    with Interrupts(), pytest.raises(Stopped), deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append("all of it")
    assert done == ["all of it"]


def test_the_handlers_of_before_are_back() -> None:
    """After Interrupts the previous signal handlers are restored."""
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before
