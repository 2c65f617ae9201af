"""The settings of fleet.toml as typed, frozen values; everything else is derived from them."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Annotated, Literal

from pydantic import Field, IPvAnyAddress, IPvAnyNetwork, JsonValue, ValidationInfo, field_validator

from fleet import backends
from fleet.errors import ConfigurationError
from fleet.isolation import ISOLATIONS, Isolation
from fleet.numbers import FIRST_UID as FIRST_UID  # noqa: PLC0414
from fleet.numbers import LAST_UID as LAST_UID  # noqa: PLC0414
from fleet.numbers import PLACEHOLDERS as PLACEHOLDERS  # noqa: PLC0414
from fleet.numbers import PLACEHOLDERS_V6 as PLACEHOLDERS_V6  # noqa: PLC0414
from fleet.numbers import PROTOCOL as PROTOCOL  # noqa: PLC0414
from fleet.numbers import Worker as Worker  # noqa: PLC0414
from fleet.paths import Paths as Paths  # noqa: PLC0414
from fleet.settings import Burst, PerSecond, Seconds
from fleet.settings import Settings as Settings  # noqa: PLC0414

# Part of the model for the rest of the code.
from fleet.settings.browser import BrowserSettings as BrowserSettings  # noqa: PLC0414
from fleet.settings.hub import HubSettings
from fleet.settings.keys import KeysSettings
from fleet.settings.web_address import WebAddress as WebAddress  # noqa: PLC0414

ACCOUNT_GROUP = "fleet"
"""Primary group of every worker; it may open netctl's socket, and nothing else of the fleet."""
NETCTL_ACCOUNT = "netctl"
HUB_ACCOUNT = "fleet-hub"
"""Also its own group, which may read results that workers own."""
KEYS_ACCOUNT = "fleet-keys"
"""Also its own group; it talks to the key service, and may read the file of its headers."""
LEAST_MEMORY_MEBIBYTES = 256
MOST_WORKERS = 512
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15")))


class WorkersSettings(Settings):
    """`[workers]`: their number, their UIDs and their limits."""

    count: int = Field(default=8, ge=1, le=MOST_WORKERS)
    first_uid: int = Field(default=1101, ge=FIRST_UID, le=LAST_UID)
    placeholders: IPv4Network = PLACEHOLDERS
    """The network of the source addresses that workers' packets have until netctl translates them."""
    stop_wait_seconds: Seconds = 20
    """How long a worker may take to end after SIGTERM before it is killed."""
    deny_netlink: bool = True
    """Deny AF_NETLINK to the worker and its browser, so that no address event can reach Chrome."""
    open_files: int = Field(default=8192, ge=1024)
    tmp_mebibytes: int = Field(default=512, ge=64)
    """Size of the private /tmp (profile included), a tmpfs that dies with the worker."""
    processes: int = Field(default=2048, ge=256, le=4_194_304)
    """Processes and threads of a worker and its browser."""
    sockets: int = Field(default=2048, ge=1024, le=65_536)
    """TCP and UDP sockets of a worker and its browser at one time; each can take a local port of the host."""
    memory_mebibytes: int = Field(default=0, ge=0, le=1_048_576)
    """Memory of a worker and its browser, its /tmp included; 0: no limit. Needs a delegated control group."""
    cpu_weight: int = Field(default=100, ge=1, le=10_000)
    """A worker's share of a processor that is fully used (cgroup-v2.rst); all workers have the same."""
    io_weight: int = Field(default=100, ge=1, le=10_000)
    """The same for a disk."""
    file_mebibytes: int = Field(default=512, ge=64, le=1_048_576)
    """The largest file that a worker may write."""

    @cached_property
    def members(self) -> tuple[Worker, ...]:
        """The workers, in UID order."""
        return tuple(Worker(uid=uid) for uid in range(self.first_uid, self.first_uid + self.count))

    @field_validator("first_uid")
    @classmethod
    def _room_for_all(cls, first: int, rest: ValidationInfo) -> int:
        if (last := first + rest.data.get("count", 1) - 1) > LAST_UID:
            raise ValueError(f"the last worker's UID would be {last}, above {LAST_UID}")
        return first

    @field_validator("placeholders")
    @classmethod
    def _private_and_large_enough(cls, network: IPv4Network, rest: ValidationInfo) -> IPv4Network:
        if not any(network.subnet_of(one) for one in _PRIVATE):
            raise ValueError(f"{network} is no private network; take a part of {', '.join(map(str, _PRIVATE))}")
        last = rest.data.get("first_uid", FIRST_UID) + rest.data.get("count", 1) - 1
        if network.num_addresses <= last - FIRST_UID + 2:  # the last of a network is its broadcast address
            raise ValueError(f"{network} has no address for w{last}, number {last - FIRST_UID + 1}; a /16 has for all")
        return network

    @field_validator("memory_mebibytes")
    @classmethod
    def _enough_for_a_browser(cls, mebibytes: int) -> int:
        if 0 < mebibytes < LEAST_MEMORY_MEBIBYTES:
            raise ValueError(f"a browser does not start in less than {LEAST_MEMORY_MEBIBYTES}; 0 is no limit")
        return mebibytes


class WireguardSettings(Settings):
    """`[wireguard]`."""

    backend: Literal["auto", backends.Name] = "auto"
    handshake_timeout_seconds: Seconds = 5
    keepalive_seconds: int = Field(default=25, ge=1, le=600)
    mtu: int = Field(default=1420, ge=576, le=9000)
    """The largest packet in a tunnel, in bytes; below 1280 no tunnel carries IPv6."""


class NetctlSettings(Settings):
    """`[netctl]`."""

    request_deadline_seconds: Seconds = 20
    """A request that waits for a key or a handshake is answered by then, with an error if need be."""
    key_cooldown_seconds: float = Field(default=5, ge=0, le=86_400)
    """A key rests this long between two leases (WireGuard's replay guard needs at least 0.02)."""
    workers_per_server: int = Field(default=0, ge=0, le=512)
    """The most workers at one VPN server at one time; 0: as many as there are keys."""
    owner_grace_seconds: Seconds = 10
    """How long netctl, after its own restart, keeps a tunnel whose worker has not come back."""
    operator_group: str = Field(default="fleet-operators", min_length=1, max_length=32)
    """Its members may ask for the status, like root; without such a group only root may."""
    frame_seconds: Seconds = 10
    """How long a caller may take to send the rest of a request, and to take its answer."""
    connections_per_uid: int = Field(default=8, ge=1, le=100_000)
    """Connections of one user at one time."""
    connections_per_second: PerSecond = 20
    """New connections of one user; more are closed at once."""
    connections_burst: Burst = 40
    requests_per_second: PerSecond = 20
    """Requests of one user, over all its connections; further ones wait."""
    requests_burst: Burst = 60
    key_requests_per_second: PerSecond = 1
    """Requests of one worker that take a key (connect, rotate): keeps one from draining the pool."""
    key_requests_burst: Burst = 10


class DnsSettings(Settings):
    """`[dns]`: the only resolvers a worker may ask, always through its tunnel."""

    resolvers: tuple[IPvAnyAddress, ...] = Field(min_length=1, max_length=3)


class ReachSettings(Settings):
    """`[reach]`: which local networks and ports a worker and its pages may reach. By default none.

    Loopback, private, link-local (cloud metadata) and multicast addresses are refused. Nothing here opens the
    host's uplink.
    """

    allow: tuple[IPvAnyNetwork, ...] = ()
    """Private networks that a worker may reach, through its tunnel."""
    loopback_ports: tuple[Annotated[int, Field(ge=1, le=65_535)], ...] = ()
    """TCP ports on this host's own addresses that every worker may connect to."""

    @property
    def networks(self) -> frozenset[IPv4Network | IPv6Network]:
        """`allow`, merged so that no two networks overlap."""
        return frozenset(
            [
                *collapse_addresses(one for one in self.allow if isinstance(one, IPv4Network)),
                *collapse_addresses(one for one in self.allow if isinstance(one, IPv6Network)),
            ]
        )


class EgressSettings(Settings):
    """`[egress]`: services that answer with the caller's address, as text or as JSON {"ip": ...}."""

    insecure_http: bool = False
    """Let `urls` be http: then anybody on the path, for example a VPN server, can answer with any address."""
    urls: tuple[WebAddress, ...] = Field(min_length=1, max_length=8)
    """All are asked at once; those that answer must agree."""
    timeout_seconds: Seconds = 10
    """For the whole request: name lookup, connection, TLS, every byte of the answer."""
    host_addresses: tuple[IPvAnyAddress, ...] = ()
    """The host's addresses without a tunnel; empty: netctl asks the urls when it has to judge an exit."""
    learned_hours: float = Field(default=24, gt=0, le=8760)
    """How long a learned exit address is valid before it is checked again."""

    @field_validator("urls")
    @classmethod
    def _nobody_answers_in_between(cls, urls: tuple[str, ...], rest: ValidationInfo) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith("https://") and not rest.data.get("insecure_http"):
                raise ValueError(
                    f"{url!r} is no https address: anybody on the path could answer for it; "
                    "use https, or set egress.insecure_http = true"
                )
        return urls


class VerifySettings(Settings):
    """`[verify]`: the servers that `fleet verify` asks; "": none, and the report says that this was not checked."""

    resolver_echo: str = Field(default="whoami.akamai.net", max_length=200, pattern=r"^[A-Za-z0-9.-]*$")
    """A name that resolves to the address of the resolver that asks for it."""
    stun: str = Field(default="stun.l.google.com:19302", max_length=200)
    """A STUN server (NAME:PORT), which tells a page its address over UDP."""

    @field_validator("stun")
    @classmethod
    def _name_and_port(cls, text: str) -> str:
        if text and not re.fullmatch(r"[A-Za-z0-9.-]+:[0-9]{1,5}", text):
            raise ValueError("is no NAME:PORT, such as stun.l.google.com:19302")
        return text


class LoopSettings(Settings):
    """`[loop]`."""

    attempts: int = Field(default=3, ge=1, le=100)
    """Attempts of one loop before it is reported as failed."""
    pause_seconds: float = Field(default=30, ge=0)
    """Pause between two loops, out of politeness to the watched site."""
    robots: bool = True
    """Open no address that its site's robots.txt disallows, and keep to its Crawl-delay."""


class TaskSettings(Settings):
    """`[task]`: what a loop does in the browser."""

    run: str = "search"
    """`watch`, `search`, `visit`, an entry point of the group `fleet.tasks`, or `package.module:function`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed to the task, which validates them."""


class Fleet(Settings):
    """All settings of fleet.toml."""

    isolation: Literal["uid", "netns"] = "netns"
    """`netns`: a network namespace for each worker. `uid`: all tunnels in the host's. Not set: see
    fleet.operate.configuration.resolved()."""
    workers: WorkersSettings = WorkersSettings()
    wireguard: WireguardSettings = WireguardSettings()
    netctl: NetctlSettings = NetctlSettings()
    keys: KeysSettings = KeysSettings()
    dns: DnsSettings
    reach: ReachSettings = ReachSettings()
    egress: EgressSettings
    browser: BrowserSettings = BrowserSettings()
    verify: VerifySettings = VerifySettings()
    loop: LoopSettings = LoopSettings()
    task: TaskSettings = TaskSettings()
    hub: HubSettings = HubSettings()

    @field_validator("hub")
    @classmethod
    def _no_worker_reaches_the_page(cls, hub: HubSettings, rest: ValidationInfo) -> HubSettings:
        reach, workers = rest.data.get("reach"), rest.data.get("workers")
        open_ports = {*(reach.loopback_ports if reach else ())}
        open_ports |= {port for worker in (workers.members if workers else ()) for port in worker.browser_ports}
        if hub.web.port in open_ports:
            raise ValueError(f"web.port: workers reach port {hub.web.port}; take another, such as 8470")
        if hub.web.port and hub.jobs == "none":
            raise ValueError('web.port: the page shows jobs; set hub.jobs = "first" or "only"')
        return hub

    @property
    def loops_task(self) -> bool:
        """Whether workers run `[task]` without a job."""
        return self.hub.jobs != "only"

    @property
    def walls(self) -> Isolation:
        """The value for `isolation`."""
        return ISOLATIONS[self.isolation]

    @property
    def members(self) -> tuple[Worker, ...]:
        """The workers, in UID order."""
        return self.workers.members

    @cached_property
    def interfaces(self) -> tuple[str, ...]:
        """Every name that a tunnel of the workers may have."""
        return tuple(name for worker in self.members for name in worker.interfaces)

    def worker(self, name: str) -> Worker:
        """The member called NAME (`w1103`, or `1103`); raises ConfigurationError when there is none."""
        for member in self.members:
            if name in (member.name, str(member.uid)):
                return member
        raise ConfigurationError(
            f"there is no worker {name!r}",
            hint=f"workers are {self.members[0].name} to {self.members[-1].name}",
        )
