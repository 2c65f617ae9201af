"""The permission table: every kind of caller times every request, and the limits that come from the settings."""

from __future__ import annotations

import grp
import inspect
import itertools
import pwd
from ipaddress import IPv4Address
from typing import get_type_hints

import pytest

from fleet.model import DnsSettings, EgressSettings, Fleet, NetctlSettings, WorkersSettings
from fleet.settings.hub import HubSettings
from fleet.sockets import acts_api, netctl_api
from fleet.sockets.callers import Caller, Connection, Limits, Peer, Rate
from fleet.sockets.netctl_api import (
    COUNTS_KEYS,
    ENDS_TUNNEL,
    TABLE,
    TAKES_KEY,
    AnotherExit,
    Connect,
    KeysByServer,
    Proved,
    Rotate,
    StartBrowser,
    Status,
    Stuck,
)
from fleet.sockets.wire import Message, Request
from netctl import access
from netctl.access import Access
from netctl.service import NetctlService

GROUP = grp.getgrnam("daemon")
"""A group that every system has stands in for the operators'."""
FLEET = Fleet(
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}),
    egress=EgressSettings(urls=("https://a.example",)),
    workers=WorkersSettings(count=3, first_uid=1201),
    netctl=NetctlSettings(operator_group=GROUP.gr_name),
)
REQUESTS = (
    Connect(),
    Rotate(),
    Proved(address=IPv4Address("203.0.113.11")),
    Stuck(),
    StartBrowser(),
    Status(),
    AnotherExit(worker="w1201"),
    KeysByServer(),
)
OF_WORKERS = {*TABLE.rows} - {"another_exit", "keys_by_server"}
MEMBER, OTHER = frozenset({GROUP.gr_gid}), frozenset({4242})
CALLERS = {
    "root": (Peer(uid=0, gid=0, pid=1), {"status"}),
    "root in the operators' group": (Peer(uid=0, gid=0, pid=1, groups=MEMBER), {"status"}),
    "the first worker": (Peer(uid=1201, gid=900, pid=1), OF_WORKERS),
    "the last worker": (Peer(uid=1203, gid=900, pid=1), OF_WORKERS),
    "a worker in root's group": (Peer(uid=1202, gid=0, pid=1), OF_WORKERS),
    "one UID below the workers": (Peer(uid=1200, gid=900, pid=1), set[str]()),
    "one UID above the workers": (Peer(uid=1204, gid=900, pid=1), set[str]()),
    "an operator": (Peer(uid=1000, gid=1000, pid=1, groups=MEMBER | OTHER), {"status"}),
    "an operator by its first group": (Peer(uid=1000, gid=GROUP.gr_gid, pid=1), {"status"}),
    "somebody of other groups": (Peer(uid=1000, gid=1000, pid=1, groups=OTHER), set[str]()),
    "somebody of root's group": (Peer(uid=1000, gid=0, pid=1), set[str]()),
    "nobody": (Peer(uid=65534, gid=65534, pid=1), set[str]()),
    "an unmapped UID": (Peer(uid=2**32 - 1, gid=2**32 - 1, pid=1), set[str]()),
}


def refuses(peer: Peer, request_: Request) -> str:
    """The table's word on a request of PEER."""
    return TABLE.refuses(Access(FLEET).caller(peer), peer.uid, request_)


def shuts_out(fleet: Fleet, peer: Peer) -> str:
    """The table's word on a connection of PEER to FLEET."""
    return TABLE.shuts_out(Access(fleet).caller(peer), peer.uid)


@pytest.mark.parametrize(("who", "request_"), list(itertools.product(CALLERS, REQUESTS)))
def test_every_caller_times_every_request(who: str, request_: Request) -> None:
    """A worker may all for its own slot; root and operators may look; everybody else may nothing. With a reason."""
    peer, may = CALLERS[who]
    why = refuses(peer, request_)
    assert (why == "") == (request_.method in may)
    assert not why or (str(peer.uid) in why and request_.method in why)


@pytest.mark.parametrize("who", CALLERS)
def test_who_may_nothing_may_not_even_connect(who: str) -> None:
    """Admission is the table's: known is who may ask for anything."""
    peer, may = CALLERS[who]
    assert (shuts_out(FLEET, peer) == "") == bool(may)


def test_a_worker_in_the_operators_group_stays_a_worker() -> None:
    """Its UID comes first: it sees its own slot and no other."""
    assert Access(FLEET).caller(Peer(uid=1201, gid=900, pid=1, groups=MEMBER)) is Caller.WORKER


def test_the_hub_is_known_where_there_are_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask for another exit of a worker, and how keys are, and nothing else; without jobs it is a stranger."""
    entry = pwd.struct_passwd(("fleet-hub", "x", 990, 990, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry)
    hub, web = Peer(uid=990, gid=990, pid=1, groups=MEMBER), HubSettings(jobs="first")
    access_ = Access(FLEET.model_copy(update={"hub": web}))
    assert access_.caller(hub) is Caller.HUB
    assert {one.method for one in REQUESTS if not TABLE.refuses(Caller.HUB, 990, one)} == {
        "another_exit",
        "keys_by_server",
    }
    assert Access(FLEET).caller(Peer(uid=990, gid=990, pid=1)) is Caller.STRANGER


def test_without_the_group_root_alone_is_an_operator() -> None:
    """A group that is not there has no members."""
    fleet = FLEET.model_copy(update={"netctl": NetctlSettings(operator_group="there-is-no-such-group")})
    assert shuts_out(fleet, Peer(uid=1000, gid=1000, pid=1, groups=MEMBER))
    assert not shuts_out(fleet, Peer(uid=0, gid=0, pid=1))


def test_a_request_that_nobody_wrote_into_the_table_is_nobodys() -> None:
    """What is not in the table is refused, to root too."""

    class Shutdown(Request):
        method = "shutdown"

    assert refuses(Peer(uid=0, gid=0, pid=1), Shutdown())


def test_every_limit_is_a_setting() -> None:
    """What fleet.toml does not say is the limit's own default, and each setting reaches its limit."""
    of_hub = {ENDS_TUNNEL: acts_api.RATE, COUNTS_KEYS: Rate(per_second=1, burst=20)}
    rates = {TAKES_KEY: Rate(per_second=1, burst=10), **of_hub}
    assert access.limits(FLEET) == Limits(request_seconds=25, rates=rates)
    names = set(Limits.__dataclass_fields__) - {"request_seconds", "rates"}
    of_keys = {"key_requests_per_second", "key_requests_burst"}
    changed = NetctlSettings.model_validate(dict.fromkeys(names | of_keys, 77))
    found = access.limits(FLEET.model_copy(update={"netctl": changed}))
    assert {getattr(found, name) for name in names} == {77}
    assert found.rates == {TAKES_KEY: Rate(per_second=77, burst=77), **of_hub}


def test_table_and_service_are_one() -> None:
    """Each row has its method, which takes the row's request; the service answers nothing that is not in the table."""
    methods = {name for name in vars(NetctlService) if not name.startswith("_")} - {"closed"}
    assert methods == set(TABLE.rows)
    for name, row in TABLE.rows.items():
        method = getattr(NetctlService, name)
        hints = get_type_hints(method)
        reply, connection, request_ = hints.pop("return"), *hints.values()
        assert inspect.iscoroutinefunction(method)
        assert (connection, request_) == (Connection, row.request)
        assert issubclass(reply, Message)


def test_every_request_has_a_row() -> None:
    """A request that was forgotten in the table would be no method of netctl's."""
    kinds = {kind for kind in vars(netctl_api).values() if isinstance(kind, type) and issubclass(kind, Request)}
    assert kinds - {Request} == set(TABLE.kinds.values())
