"""The permission table: every kind of caller times every request, and the limits that come from the settings."""

from __future__ import annotations

import grp
import itertools
from ipaddress import IPv4Address

import pytest

from fleet import wire
from fleet.model import DnsSettings, EgressSettings, Fleet, NetctlSettings, WorkersSettings
from fleet.rpc import Limits, Peer
from netctl import access
from netctl.access import Access

GROUP = grp.getgrnam("daemon")
"""A group that every system has stands in for the operators'."""
FLEET = Fleet(
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}),
    egress=EgressSettings(urls=("https://a.example",)),
    workers=WorkersSettings(count=3, first_uid=1201),
    netctl=NetctlSettings(operator_group=GROUP.gr_name),
)
REQUESTS = (wire.Connect(), wire.Rotate(), wire.Proved(address=IPv4Address("203.0.113.11")), wire.Status())
MEMBER, OTHER = frozenset({GROUP.gr_gid}), frozenset({4242})
CALLERS = {
    "root": (Peer(uid=0, gid=0, pid=1), {"status"}),
    "root in the operators' group": (Peer(uid=0, gid=0, pid=1, groups=MEMBER), {"status"}),
    "the first worker": (Peer(uid=1201, gid=900, pid=1), set(wire.KINDS)),
    "the last worker": (Peer(uid=1203, gid=900, pid=1), set(wire.KINDS)),
    "a worker in root's group": (Peer(uid=1202, gid=0, pid=1), set(wire.KINDS)),
    "one UID below the workers": (Peer(uid=1200, gid=900, pid=1), set[str]()),
    "one UID above the workers": (Peer(uid=1204, gid=900, pid=1), set[str]()),
    "an operator": (Peer(uid=1000, gid=1000, pid=1, groups=MEMBER | OTHER), {"status"}),
    "an operator by its first group": (Peer(uid=1000, gid=GROUP.gr_gid, pid=1), {"status"}),
    "somebody of other groups": (Peer(uid=1000, gid=1000, pid=1, groups=OTHER), set[str]()),
    "somebody of root's group": (Peer(uid=1000, gid=0, pid=1), set[str]()),
    "nobody": (Peer(uid=65534, gid=65534, pid=1), set[str]()),
    "an unmapped UID": (Peer(uid=2**32 - 1, gid=2**32 - 1, pid=1), set[str]()),
}


@pytest.mark.parametrize(("who", "request_"), list(itertools.product(CALLERS, REQUESTS)))
def test_every_caller_times_every_request(who: str, request_: wire.Request) -> None:
    """A worker may all for its own slot; root and operators may look; everybody else may nothing. With a reason."""
    peer, may = CALLERS[who]
    verdict = Access(FLEET).allows(peer, request_)
    assert verdict.allowed == (request_.method in may)
    assert str(peer.uid) in verdict.reason and request_.method in verdict.reason


@pytest.mark.parametrize("who", CALLERS)
def test_who_may_nothing_may_not_even_connect(who: str) -> None:
    """Admission is the table's: known is who may ask for anything."""
    peer, may = CALLERS[who]
    assert Access(FLEET).admits(peer).allowed == bool(may)


def test_a_worker_in_the_operators_group_stays_a_worker() -> None:
    """Its UID comes first: it sees its own slot and no other."""
    assert Access(FLEET).caller(Peer(uid=1201, gid=900, pid=1, groups=MEMBER)) is access.Caller.WORKER


def test_without_the_group_root_alone_is_an_operator() -> None:
    """A group that is not there has no members."""
    fleet = FLEET.model_copy(update={"netctl": NetctlSettings(operator_group="there-is-no-such-group")})
    assert not Access(fleet).admits(Peer(uid=1000, gid=1000, pid=1, groups=MEMBER)).allowed
    assert Access(fleet).admits(Peer(uid=0, gid=0, pid=1)).allowed


def test_a_request_that_nobody_wrote_into_the_table_is_nobodys() -> None:
    """What is not in the table is refused, to root too."""

    class Shutdown(wire.Request):
        method = "shutdown"

    assert not Access(FLEET).allows(Peer(uid=0, gid=0, pid=1), Shutdown()).allowed


def test_every_limit_is_a_setting() -> None:
    """What fleet.toml does not say is the limit's own default, and each setting reaches its limit."""
    assert access.limits(FLEET) == Limits(request_seconds=25)
    names = set(Limits.__dataclass_fields__) - {"request_seconds"}
    changed = NetctlSettings.model_validate(dict.fromkeys(names, 77))
    found = access.limits(FLEET.model_copy(update={"netctl": changed}))
    assert {getattr(found, name) for name in names} == {77}
