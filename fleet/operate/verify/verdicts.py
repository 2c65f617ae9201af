"""Turns the evidence of a run into a verdict for each property; pure functions.

The common rule: a breach that was seen is `broken`; no breach, where the control shows that one would have been seen,
is `holds`; everything else is `unproven`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from fleet.operate.verify.report import Property, Verdict
from fleet.operate.verify.walls import Walls
from fleet.probes import Answer, ControlAnswer, Probe, Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run has gathered."""

    control: ControlAnswer
    control_drawn: tuple[Probe, ...]
    no_way: frozenset[str]
    """Marks of the control's probes that the host has no route for."""
    control_lookup: str
    """The token in the name that the control looked up."""
    states: Mapping[str, tuple[Probe, ...]]
    """The worker's probes by state: `sealed`, `connected`."""
    lookups: Mapping[str, str]
    """The token in the name that the worker looked up, by asker."""
    left: Mapping[str, tuple[str, ...]]
    """By mark or token: the interfaces that its packets left by. A missing key: no packet left."""
    lost: int
    """Packets that the capture's buffer had no room for."""
    still_saw: bool
    """The capture saw the control once more at the end."""
    answer: Answer
    host_addresses: frozenset[str]
    """The addresses that the host shows without a tunnel, and those on its interfaces."""
    came_control: Mapping[str, tuple[str, ...]]
    """By listener: the peers' addresses of connections while the control tried."""
    came_worker: Mapping[str, tuple[str, ...]]
    """The same while the worker tried."""
    sandbox_wanted: bool
    asked_echo: bool
    walls: Walls


def judge(evidence: Evidence) -> tuple[Property, ...]:
    """The verdicts: always the same properties in the same order."""
    return (
        _tunnel(evidence),
        _exit(evidence),
        _uplink(evidence),
        _names(evidence),
        _ipv6(evidence),
        _webrtc(evidence),
        _near(evidence, "loopback"),
        _near(evidence, "lan"),
        _metadata(evidence),
        _near(evidence, "devtools"),
        _sandbox(evidence),
        _strangers(evidence),
        _ends(evidence),
        _programs(evidence),
    )


def _property(verdict: Verdict, name: str, seen: str, evidence: Iterable[str] = ()) -> Property:
    return Property(name=name, verdict=verdict, seen=seen, evidence=tuple(evidence))


_holds, _broken, _unproven = (partial(_property, one) for one in (Verdict.HOLDS, Verdict.BROKEN, Verdict.UNPROVEN))


def _tunnel(evidence: Evidence) -> Property:
    answer = evidence.answer
    if answer.tunnel_error:
        return _unproven("tunnel", f"there was none: {answer.tunnel_error}")
    return _holds("tunnel", "connected")


def _exit(evidence: Evidence) -> Property:
    answer = evidence.answer
    return _shown(evidence, "exit", answer.exit_seen, answer.exit_error, "the world sees {}, the leased exit")


def _shown(evidence: Evidence, name: str, seen: str | None, error: str, good: str) -> Property:
    """The verdict on the address the world sees over one family; GOOD is the text when that is the exit's."""
    if seen in evidence.host_addresses:
        return _broken(name, f"the world sees {seen}, an address of this host")
    if error:
        return (_broken if seen else _unproven)(name, error)
    return _holds(name, good.format(seen)) if seen else _unproven(name, "no echo service was asked")


def _uplink(evidence: Evidence) -> Property:
    leaks, blind = list(_leaks(evidence)), list(_blind(evidence))
    if leaks:
        return _broken("uplink", f"{len(leaks)} probes of the worker left the host past its tunnel", leaks)
    if evidence.lost or not evidence.still_saw:
        why = f"{evidence.lost} packets were lost" if evidence.lost else "it did not see the control at the end"
        return _unproven("uplink", f"the capture may have missed something: {why}", blind)
    tried = [probe.mark for drawn in evidence.states.values() for probe in drawn]
    said = _said(evidence)
    if missing := sum(mark not in said for mark in tried):
        return _unproven("uplink", f"{missing} of {len(tried)} probes were not tried")
    if blind:
        return _unproven("uplink", f"{len(blind)} kinds of probe could have left unseen", blind)
    seen = f"0 of {len(tried)} probes left the host, and each of the control's was seen"
    return _holds("uplink", "; ".join([seen, *_absent(evidence)]))


def _cannot(evidence: Evidence) -> set[str]:
    """Marks of the probes that an ordinary user of this host cannot send."""
    return {*evidence.no_way, *(one.mark for one in evidence.control.sent if one.forbidden)}


def _absent(evidence: Evidence) -> Iterator[str]:
    """The address families and kinds of probe that this host cannot send, in words."""
    left = _cannot(evidence)
    for family, sign in (("IPv4", "."), ("IPv6", ":")):
        marks = {probe.mark for probe in evidence.control_drawn if sign in probe.target}
        if marks <= evidence.no_way:
            yield f"the host has no {family}"
            left -= marks
    if left:
        yield f"{len(left)} kinds of probe cannot be sent from this host"


def _leaks(evidence: Evidence) -> Iterator[str]:
    for state, drawn in evidence.states.items():
        for probe in drawn:
            for left in evidence.left.get(probe.mark, ()):
                yield f"{state}: {probe.name}: {left}"


def _said(evidence: Evidence) -> dict[str, Sent]:
    """What the worker reports about its probes, by mark."""
    return {one.mark: one for one in (*evidence.answer.sealed, *evidence.answer.connected)}


def _blind(evidence: Evidence) -> Iterator[str]:
    """Kinds of probe that a worker could have sent, and of which the capture did not see the control's."""
    sent, control, cannot = _said(evidence), {one.mark: one for one in evidence.control.sent}, _cannot(evidence)
    for number, probe in enumerate(evidence.control_drawn):
        if evidence.left.get(probe.mark):
            continue
        said = control.get(probe.mark)
        tries = [(state, drawn[number]) for state, drawn in evidence.states.items()]
        if said is not None and probe.mark in cannot and not any(_could(evidence, *one, sent) for one in tries):
            continue  # no user of this host can send it
        yield f"{probe.name}: the control's was not seen{f' ({said.error})' if said and said.error else ''}"


def _could(evidence: Evidence, state: str, probe: Probe, sent: Mapping[str, Sent]) -> bool:
    """Whether the worker may have sent PROBE, by a path that the host itself does not have."""
    said = sent.get(probe.mark)
    through = state == "connected" and ":" in probe.target and not probe.bound and evidence.answer.carries_ipv6
    return said is None or not (said.error or through)


def _names(evidence: Evidence) -> Property:
    answer = evidence.answer
    leaks = [
        f"asked by {asker}: {left}"
        for asker, token in evidence.lookups.items()
        for left in evidence.left.get(token, ())
    ]
    if leaks:
        return _broken("names", "a name that the worker looked up was asked for past its tunnel", leaks)
    bad = set(answer.echo) & (set(evidence.control.echo) | evidence.host_addresses)
    if bad:
        return _broken(
            "names", f"the resolver that asks for the worker's names is the host's: {', '.join(sorted(bad))}"
        )
    why = []
    if not evidence.left.get(evidence.control_lookup):
        why.append("the control's look-up was not seen at the uplink: are the host's own names asked for encrypted?")
    why += [f"{asker} has not asked" for asker in evidence.lookups if asker not in answer.looked_up]
    if evidence.asked_echo and not answer.echo:
        why.append("the echo name (verify.resolver_echo) had no answer")
    if why:
        return _unproven("names", why[0], why[1:])
    by = f"asked by {', '.join(answer.echo)}" if answer.echo else "the resolver was not checked (verify.resolver_echo)"
    return _holds("names", f"nothing at the uplink; {by}")


def _ipv6(evidence: Evidence) -> Property:
    answer = evidence.answer
    drawn = evidence.states["connected"]
    marks = {probe.mark for probe in drawn if ":" in probe.target}
    left = [one for probe in drawn if probe.mark in marks for one in evidence.left.get(probe.mark, ())]
    if left:
        return _broken("ipv6", "IPv6 left the host past the tunnel", left)
    if answer.carries_ipv6:
        return _shown(evidence, "ipv6", answer.exit_v6_seen, answer.exit_v6_error, "carried: the world sees {}")
    sent = [one for one in answer.connected if one.mark in marks]
    if not sent:
        return _unproven("ipv6", "not tried")
    if through := [one.mark for one in sent if not one.error]:
        return _broken("ipv6", f"the key carries no IPv6, but the kernel took {len(through)} of {len(sent)} packets")
    return _holds("ipv6", "blocked: every try fails at once")


def _webrtc(evidence: Evidence) -> Property:
    page, answer = evidence.answer.page, evidence.answer
    if page is None:
        return _unproven("webrtc", answer.page_error or "no page was opened")
    exits = {answer.exit_seen, answer.exit_v6_seen} - {None}
    if bad := [one for one in page.candidates if one not in exits]:
        return _broken("webrtc", f"a page learns {', '.join(bad)}")
    if not page.gathered:
        return _unproven("webrtc", "the browser did not begin to gather candidates")
    return _holds("webrtc", f"a page learns {', '.join(page.candidates) or 'no address at all'}")


def _near(evidence: Evidence, name: str) -> Property:
    """The verdict on the listeners on the host's own addresses whose names begin with NAME."""
    page, tries = evidence.answer.page, [one for one in evidence.answer.reaches if one.name.startswith(name)]
    # A connection from the exit came through the tunnel, to an address of this host that is public.
    outside = {evidence.answer.exit_seen, evidence.answer.exit_v6_seen}
    heard = [
        f"{one}: {len(inside)} connections from {', '.join(sorted(set(inside)))}"
        for one, peers in evidence.came_worker.items()
        if one.startswith(name) and (inside := [peer for peer in peers if peer not in outside])
    ]
    if heard:
        return _broken(name, "the worker reaches services of this host", heard)
    blind = [one.name for one in tries if not evidence.came_control.get(one.name)]
    if not tries or blind:
        why = f"the control did not reach {', '.join(blind)} either" if blind else "there was nothing to reach"
        return _unproven(name, why)
    if page is None or not page.tried:
        return _unproven(name, "refused to the worker; not tried from a page")
    return _holds(name, f"{len(tries)} services that others reach are refused to the worker and to pages")


def _metadata(evidence: Evidence) -> Property:
    tries = [one for one in evidence.answer.reaches if one.name.startswith("metadata")]
    page = evidence.answer.page
    if any(one.connected for one in tries) or (page and any(one.startswith("metadata") for one in page.navigated)):
        return _broken("metadata", "the worker reaches cloud metadata")
    leaks = [line for line in _leaks(evidence) if "metadata" in line]
    if leaks:
        return _broken("metadata", "packets for cloud metadata left the host", leaks)
    blind = [line for line in _blind(evidence) if "metadata" in line]
    if not tries or blind or page is None:
        return _unproven(
            "metadata", "refused, but a packet there could have gone unseen" if tries else "not tried", blind
        )
    return _holds("metadata", f"refused: {tries[0].error}")


def _sandbox(evidence: Evidence) -> Property:
    page = evidence.answer.page
    if not evidence.sandbox_wanted:
        return _broken("sandbox", "switched off: browser.sandbox in fleet.toml")
    if page is None:
        return _unproven("sandbox", evidence.answer.page_error or "no browser was started")
    return (_holds if page.sandboxed else _broken)("sandbox", page.sandbox)


def _strangers(evidence: Evidence) -> Property:
    """The verdict on the listeners on the worker's own browser ports, which the control tried."""
    name, came = "strangers", evidence.came_control
    if heard := [one for one in came if one.startswith(name)]:
        return _broken(name, "an ordinary user of this host reaches the ports of the worker's browser", heard)
    tried = [one for one in evidence.control.reaches if one.name.startswith(name)]
    if not tried or not any(one.startswith("loopback") for one in came):
        return _unproven(name, "the ports could not be tried" if not tried else "the control reached nothing at all")
    return _holds(name, "the ports of its DevTools and its ChromeDriver are refused to an ordinary user")


def _ends(evidence: Evidence) -> Property:
    if evidence.walls.error:
        return _unproven("ends", evidence.walls.error)
    if evidence.walls.left:
        return _broken("ends", "processes outlive their worker, and so `fleet down`", evidence.walls.left)
    return _holds("ends", "what a worker starts ends with it: in other sessions, orphaned, stopped")


def _programs(evidence: Evidence) -> Property:
    if evidence.walls.error:
        return _unproven("programs", evidence.walls.error)
    if evidence.walls.rights:
        why = "set-UID programs of this host give a worker another UID, which no rule holds (fleet doctor names them)"
        return _unproven("programs", why, evidence.walls.rights)
    return _holds("programs", "no set-UID program and no file capability of this host gives a worker a right")
