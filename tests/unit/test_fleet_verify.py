"""`fleet verify` judges: what was seen, what could have been, and what the exit code says of it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from fleet.errors import ExitCode
from fleet.operate.verify import probe_sets
from fleet.operate.verify.capture import marks_of
from fleet.operate.verify.probe_sets import Host
from fleet.operate.verify.report import Property, Report, Verdict, text
from fleet.operate.verify.verdicts import Evidence, judge
from fleet.operate.verify.walls import Walls
from fleet.probes import Answer, ControlAnswer, Page, Probe, Reached, Sent, payload

HOST = Host(uplink="eth0", gateway="198.51.100.1", address="198.51.100.10", resolvers=("198.51.100.53",))
EXIT = "203.0.113.11"
LISTENERS = ("loopback", "lan", "devtools of w1102")
LEFT = ("1 by eth0",)


def sent(drawn: tuple[Probe, ...], error: str = "") -> tuple[Sent, ...]:
    """Every probe of DRAWN, with the kernel's word to it."""
    return tuple(Sent(mark=probe.mark, error=error) for probe in drawn)


def good() -> Evidence:
    """A run in which everything holds."""
    control, sealed, connected = probe_sets.draw(HOST, 3)
    page = Page(candidates=(), gathered=True, navigated=(), tried=21, sandboxed=True, sandbox="adequately sandboxed")
    refused = [Reached(name=name, connected=False, error="No route to host") for name in (*LISTENERS, "metadata")]
    return Evidence(
        control=ControlAnswer(
            sent=sent(control),
            echo=("198.51.100.53",),
            reaches=(Reached(name="strangers at DevTools of w1101", connected=False, error="Connection refused"),),
        ),
        control_drawn=control,
        no_way=frozenset(),
        control_lookup="fv0",
        states={"sealed": sealed, "connected": connected},
        lookups={"getaddrinfo": "fv1", "chrome": "fv2"},
        left={**dict.fromkeys([probe.mark for probe in control], LEFT), "fv0": LEFT},
        lost=0,
        still_saw=True,
        answer=Answer(
            sealed=sent(sealed, "Network is unreachable"),
            connected=sent(connected, "Network is unreachable"),
            reaches=tuple(refused),
            exit_seen=EXIT,
            echo=(EXIT,),
            looked_up=("getaddrinfo", "chrome"),
            page=page,
        ),
        host_addresses=frozenset({"198.51.100.10"}),
        came_control=dict.fromkeys(LISTENERS, ("127.0.0.1",)),
        came_worker={},
        sandbox_wanted=True,
        asked_echo=True,
        walls=Walls(),
    )


def answering(evidence: Evidence, **changes: Any) -> Evidence:
    """EVIDENCE with other words of the worker's half."""
    return dataclasses.replace(evidence, answer=evidence.answer.model_copy(update=changes))


def paged(evidence: Evidence, **changes: Any) -> Evidence:
    """EVIDENCE with another page."""
    assert evidence.answer.page is not None
    return answering(evidence, page=evidence.answer.page.model_copy(update=changes))


def leaking(evidence: Evidence, *marks: str) -> Evidence:
    """EVIDENCE in which packets with MARKS have left too."""
    return dataclasses.replace(evidence, left={**evidence.left, **dict.fromkeys(marks, LEFT)})


def blind_to(evidence: Evidence, wanted: Callable[[Probe], bool]) -> Evidence:
    """EVIDENCE in which the capture has not seen those of the control's probes."""
    gone = {probe.mark for probe in evidence.control_drawn if wanted(probe)}
    return dataclasses.replace(evidence, left={mark: by for mark, by in evidence.left.items() if mark not in gone})


def first(evidence: Evidence, state: str, wanted: Callable[[Probe], bool]) -> str:
    """The mark of the first such probe of the worker's in STATE."""
    return next(probe.mark for probe in evidence.states[state] if wanted(probe))


def verdicts(evidence: Evidence, but: Verdict = Verdict.HOLDS) -> dict[str, Verdict]:
    """Those properties that are not BUT."""
    return {one.name: one.verdict for one in judge(evidence) if one.verdict is not but}


def test_everything_holds() -> None:
    """Fourteen properties, each once, none of them in doubt."""
    assert verdicts(good()) == {}
    assert len({one.name for one in judge(good())}) == len(judge(good())) == 14


BROKEN, UNPROVEN = Verdict.BROKEN, Verdict.UNPROVEN
BY_ROOT = {"strangers", "ends", "programs"}
"""What is seen without the worker's half."""
CASES: dict[str, tuple[Callable[[Evidence], Evidence], dict[str, Verdict]]] = {
    "a packet before there is a tunnel": (
        lambda seen: leaking(seen, first(seen, "sealed", lambda probe: probe.kind == "udp")),
        {"uplink": BROKEN},
    ),
    "IPv6 past the tunnel": (
        lambda seen: leaking(seen, first(seen, "connected", lambda probe: ":" in probe.target)),
        {"uplink": BROKEN, "ipv6": BROKEN},
    ),
    "a packet to cloud metadata": (
        lambda seen: leaking(seen, first(seen, "connected", lambda probe: probe.target == probe_sets.METADATA)),
        {"uplink": BROKEN, "metadata": BROKEN},
    ),
    "no tunnel": (
        lambda seen: answering(
            seen,
            connected=(),
            reaches=(),
            tunnel_error="no key is free",
            exit_seen=None,
            page=None,
            looked_up=(),
            echo=(),
        ),
        {one.name: UNPROVEN for one in judge(good()) if one.name not in BY_ROOT},
    ),
    "no answer at all, and a packet that left": (
        lambda seen: leaking(
            dataclasses.replace(seen, answer=Answer(tunnel_error="w1101's half did not answer within 300 s")),
            first(seen, "sealed", lambda probe: probe.kind == "udp"),
        ),
        {one.name: BROKEN if one.name == "uplink" else UNPROVEN for one in judge(good()) if one.name not in BY_ROOT},
    ),
    "a stranger at the browser's port": (
        lambda seen: dataclasses.replace(
            seen, came_control={**seen.came_control, "strangers at DevTools of w1101": ("127.0.0.1",)}
        ),
        {"strangers": BROKEN},
    ),
    "ports that are somebody's": (
        lambda seen: dataclasses.replace(seen, control=seen.control.model_copy(update={"reaches": ()})),
        {"strangers": UNPROVEN},
    ),
    "a process that outlives its worker": (
        lambda seen: dataclasses.replace(seen, walls=Walls(left=("process 7 (sleep)",))),
        {"ends": BROKEN},
    ),
    "a set-UID program that counts": (
        lambda seen: dataclasses.replace(seen, walls=Walls(rights=("no_new_privs is not set",))),
        {"programs": UNPROVEN},
    ),
    "no word from behind the launcher": (
        lambda seen: dataclasses.replace(seen, walls=Walls(error="it did not answer")),
        {"ends": UNPROVEN, "programs": UNPROVEN},
    ),
    "probes that were not sent": (lambda seen: answering(seen, sealed=()), {"uplink": UNPROVEN}),
    "capture without room": (lambda seen: dataclasses.replace(seen, lost=3), {"uplink": UNPROVEN}),
    "capture that ended": (lambda seen: dataclasses.replace(seen, still_saw=False), {"uplink": UNPROVEN}),
    "a kind nobody could see": (
        lambda seen: blind_to(seen, lambda probe: probe.kind == "quic"),
        {"uplink": UNPROVEN},
    ),
    "metadata nobody could see": (
        lambda seen: blind_to(seen, lambda probe: probe.target == probe_sets.METADATA),
        {"uplink": UNPROVEN, "metadata": UNPROVEN},
    ),
    "a name at the uplink": (lambda seen: leaking(seen, "fv2"), {"names": BROKEN}),
    "names of the host's resolver": (
        lambda seen: answering(seen, echo=("198.51.100.53",)),
        {"names": BROKEN},
    ),
    "names that are encrypted on the host": (
        lambda seen: dataclasses.replace(seen, left={k: v for k, v in seen.left.items() if k != "fv0"}),
        {"names": UNPROVEN},
    ),
    "no echo": (lambda seen: answering(seen, echo=()), {"names": UNPROVEN}),
    "Chrome did not ask": (lambda seen: answering(seen, looked_up=("getaddrinfo",)), {"names": UNPROVEN}),
    "another exit": (
        lambda seen: answering(seen, exit_seen="203.0.113.12", exit_error="the world sees 203.0.113.12"),
        {"exit": BROKEN},
    ),
    "the host as the exit": (
        lambda seen: answering(seen, exit_seen="198.51.100.10", exit_error=""),
        {"exit": BROKEN},
    ),
    "nobody to ask for the exit": (
        lambda seen: answering(seen, exit_seen=None, exit_error="no service answered"),
        {"exit": UNPROVEN},
    ),
    "IPv6 of a key without": (
        lambda seen: answering(seen, connected=sent(seen.states["connected"])),
        {"ipv6": BROKEN},
    ),
    "IPv6 carried to the host": (
        lambda seen: answering(seen, carries_ipv6=True, exit_v6_seen="198.51.100.10"),
        {"ipv6": BROKEN},
    ),
    "a candidate of the host": (lambda seen: paged(seen, candidates=("198.51.100.10",)), {"webrtc": BROKEN}),
    "a hidden candidate": (lambda seen: paged(seen, candidates=("1f4712.local",)), {"webrtc": BROKEN}),
    "no gathering": (lambda seen: paged(seen, gathered=False), {"webrtc": UNPROVEN}),
    "a service on loopback": (
        lambda seen: dataclasses.replace(seen, came_worker={"loopback": ("127.0.0.1",)}),
        {"loopback": BROKEN},
    ),
    "a neighbour's DevTools": (
        lambda seen: dataclasses.replace(seen, came_worker={"devtools of w1102": ("127.0.0.1",)}),
        {"devtools": BROKEN},
    ),
    "a listener nobody reaches": (
        lambda seen: dataclasses.replace(seen, came_control={}),
        dict.fromkeys(("loopback", "lan", "devtools", "strangers"), UNPROVEN),
    ),
    "the sandbox off": (lambda seen: dataclasses.replace(seen, sandbox_wanted=False), {"sandbox": BROKEN}),
    "the sandbox not in force": (lambda seen: paged(seen, sandboxed=False), {"sandbox": BROKEN}),
    "no browser": (
        lambda seen: answering(seen, page=None, page_error="the browser did not start"),
        dict.fromkeys(("webrtc", "loopback", "lan", "metadata", "devtools", "sandbox"), UNPROVEN),
    ),
    "metadata in a tab": (lambda seen: paged(seen, navigated=("metadata",)), {"metadata": BROKEN}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_breach_and_each_doubt_is_named(case: str) -> None:
    """What goes wrong changes the properties that it is about, and no other."""
    change, expected = CASES[case]
    assert verdicts(change(good())) == expected


def test_what_comes_back_from_the_exit_is_no_reach() -> None:
    """A host whose own address the world reaches sees the worker come from its exit: that went through the tunnel."""
    assert verdicts(dataclasses.replace(good(), came_worker={"lan": (EXIT,)})) == {}


def test_a_way_that_the_host_has_not_is_not_asked_for() -> None:
    """Without IPv6 on the host there is nothing to see, as long as the worker could not send either."""
    seen = good()
    absent = tuple(
        Sent(mark=probe.mark, error="unreachable") if ":" in probe.target else Sent(mark=probe.mark)
        for probe in seen.control_drawn
    )
    blind = blind_to(
        dataclasses.replace(seen, control=seen.control.model_copy(update={"sent": absent})),
        lambda one: ":" in one.target,
    )
    assert verdicts(blind) == {"uplink": Verdict.UNPROVEN}, "an error alone says nothing of the host"
    no_way = frozenset(probe.mark for probe in seen.control_drawn if ":" in probe.target)
    without = dataclasses.replace(blind, no_way=no_way)
    assert verdicts(without) == {}
    assert uplink(without).endswith("was seen; the host has no IPv6")
    could = answering(without, sealed=sent(without.states["sealed"]))
    assert verdicts(could) == {"uplink": Verdict.UNPROVEN}
    # Its tunnel has IPv6 where the host has none: what is not bound to the uplink goes there.
    connected = tuple(
        Sent(mark=probe.mark, error="Network is unreachable" if probe.bound else "")
        for probe in without.states["connected"]
    )
    assert verdicts(answering(without, connected=connected)) == {"uplink": Verdict.UNPROVEN, "ipv6": Verdict.BROKEN}
    assert verdicts(answering(without, connected=connected, carries_ipv6=True, exit_v6_seen="2001:db8::1")) == {}
    everything = sent(without.states["connected"])
    carried = answering(without, connected=everything, carries_ipv6=True, exit_v6_seen="2001:db8::1")
    assert verdicts(carried) == {"uplink": Verdict.UNPROVEN}


def test_a_kind_that_ordinary_users_may_not_send_is_not_asked_for() -> None:
    """Where ping is not for everybody there is nothing to see of it, as long as the worker could not send either."""
    seen = good()
    pings = {probe.mark for probe in seen.control_drawn if probe.kind == "icmp"}
    said = [one.model_copy(update={"forbidden": one.mark in pings}) for one in seen.control.sent]
    without = dataclasses.replace(seen, control=seen.control.model_copy(update={"sent": tuple(said)}))
    without = blind_to(without, lambda probe: probe.kind == "icmp")
    assert verdicts(without) == {}
    assert uplink(without).endswith(f"; {len(pings)} kinds of probe cannot be sent from this host")
    assert verdicts(answering(without, sealed=sent(without.states["sealed"]))) == {"uplink": Verdict.UNPROVEN}


def uplink(evidence: Evidence) -> str:
    """What is said of what left the host."""
    return next(one.seen for one in judge(evidence) if one.name == "uplink")


def test_two_draws_have_nothing_in_common_but_their_names() -> None:
    """Every probe can be told from every other by its mark, within a draw and between two."""
    one, other = probe_sets.draw(HOST, 2)
    assert [probe.name for probe in one] == [probe.name for probe in other]
    marks = [probe.mark for drawn in (one, other) for probe in drawn]
    assert len(set(marks)) == len(marks) == 2 * len(one)


@pytest.mark.parametrize("kind", ["udp", "dns", "stun", "quic", "icmp"])
def test_a_token_is_found_in_what_is_sent(kind: Any) -> None:
    """Each kind's payload carries its token, whatever case a resolver gives to the letters of a name."""
    probe = Probe(name="x", kind=kind, target="192.0.2.1", port=1, token=probe_sets.token())
    packet = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, *(192, 0, 2, 9), *(192, 0, 2, 1)]) + payload(probe)
    assert marks_of(packet) == marks_of(packet.upper()) == {probe.token}


def test_a_syn_is_known_by_its_target() -> None:
    """TCP's first packet has no payload: address and port tell it; IP options move the ports."""
    addresses = bytes([*(192, 0, 2, 9), *(192, 0, 2, 1)])
    ports = bytes([1, 2, 0x03, 0x55])
    plain = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]) + addresses + ports
    optional = bytes([0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]) + addresses + bytes(4) + ports
    assert marks_of(plain) == marks_of(optional) == {"192.0.2.1 853"}
    version_6 = bytes([0x60, 0, 0, 0, 0, 0, 6, 64]) + bytes(16) + bytes([0x20, 1, 0xD, 0xB8, *bytes(11), 7]) + ports
    assert marks_of(version_6) == {"2001:db8::7 853"}
    for short in (b"", plain[:15], plain[:21], version_6[:39]):
        assert marks_of(short) == set()


def report(*found: Verdict) -> Report:
    """A report with these verdicts."""
    return Report(
        worker="w1101",
        isolation="uid",
        time="2026-01-01T00:00:00+00:00",
        versions={"kernel": "6.1"},
        capture={"seen": 1, "lost": 0},
        properties=tuple(
            Property(name=f"p{number}", verdict=one, seen="words", evidence=("more",))
            for number, one in enumerate(found)
        ),
    )


def test_exit_codes() -> None:
    """0 only when all hold; a breach goes before a doubt."""
    holds = Verdict.HOLDS
    assert report(holds, holds).exit_code.value == 0
    assert report(holds, UNPROVEN).exit_code.value == 75
    assert report(UNPROVEN, BROKEN, holds).exit_code.value == 1
    assert report().exit_code == ExitCode.TRY_LATER


def test_text_and_json_say_the_same() -> None:
    """A line a property; evidence where one does not hold; JSON that can be read back."""
    made = report(Verdict.HOLDS, BROKEN)
    lines = list(text(made))
    assert [bool(re.match(rf"{word} +p{number} ", lines[number])) for number, word in enumerate(("holds", "broken"))]
    assert lines[2].strip() == "more"
    assert Report.model_validate(json.loads(made.model_dump_json())) == made


def test_what_the_worker_says_is_no_terminals_command() -> None:
    """Words of the worker's reach root's terminal on one line, without escape sequences, and not without end."""
    answer = Answer(tunnel_error="a\x1b[2Jb\nc\u202ed" + "x" * 10_000)
    assert answer.tunnel_error.startswith(r"a\x1b[2Jb; c\u202edxxx") and len(answer.tunnel_error) < 1000
