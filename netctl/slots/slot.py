"""A slot: one worker's tunnel as a small state machine, with one table of its transitions.

    sealed ──connect──▶ connecting ──ready──▶ connected ──rotate──▶ connecting
       ▲                    │                     │
       └──────end───────────┴─────────end─────────┤
       │                                          │ (netctl restarts: adopt)
       └──────────end────────── orphaned ◀────────┘
                                   │ resume ──▶ connected

The gate is closed in every state but `connected` and `orphaned`, so any failure blocks the worker.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import datetime, timezone

from fleet.errors import FleetError
from fleet.machine import processes
from fleet.model import Worker
from fleet.sockets.callers import Connection
from netctl.plan.desired import Held
from netctl.pool.contract import Lease
from netctl.wireguard.contract import Reading


class SlotState(enum.Enum):
    """The states of a slot."""

    SEALED = "sealed"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ORPHANED = "orphaned"


class Event(enum.Enum):
    """The events that change a slot's state."""

    CONNECT = "connect"
    READY = "ready"
    ROTATE = "rotate"
    END = "end"
    ADOPT = "adopt"
    RESUME = "resume"


TRANSITIONS: dict[tuple[SlotState, Event], SlotState] = {
    (SlotState.SEALED, Event.CONNECT): SlotState.CONNECTING,
    (SlotState.SEALED, Event.ADOPT): SlotState.ORPHANED,
    (SlotState.SEALED, Event.END): SlotState.SEALED,
    (SlotState.CONNECTING, Event.READY): SlotState.CONNECTED,
    (SlotState.CONNECTING, Event.END): SlotState.SEALED,
    (SlotState.CONNECTED, Event.ROTATE): SlotState.CONNECTING,
    (SlotState.CONNECTED, Event.END): SlotState.SEALED,
    (SlotState.ORPHANED, Event.RESUME): SlotState.CONNECTED,
    (SlotState.ORPHANED, Event.END): SlotState.SEALED,
}
OPEN = frozenset({SlotState.CONNECTED, SlotState.ORPHANED})


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(eq=False, slots=True, kw_only=True)
class Slot:
    """One worker's tunnel. All changes happen under `lock`, by one task at a time."""

    worker: Worker
    state: SlotState = SlotState.SEALED
    owner: Connection | None = None
    holder: str = ""
    """The owner's process, as named by fleet.machine.processes."""
    server: str | None = None
    """The only server or region whose keys the owner wants; None: any."""
    lease: Lease | None = None
    generation: int = 0
    handshake_ms: float = 0.0
    reading: Reading | None = None
    """The last reading of the lease's device, at the time `counted_at`."""
    counted_at: datetime | None = None
    since: datetime = field(default_factory=_now)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no connection owns the slot."""
    repairing: bool = False
    """Its device is being replaced, or that has failed: the gate is closed in every state."""
    unconfirmed: bool = False
    """The device or the key store has not confirmed the last change yet: until then the key is not leased again."""

    def __post_init__(self) -> None:
        self.freed.set()

    def step(self, event: Event) -> None:
        """Make the transition for EVENT; raises FleetError for one that is not in the table."""
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise FleetError(f"slot {self.worker.name} is {self.state.value}: it cannot {event.value}")
        if after is not self.state:
            self.state, self.since = after, _now()

    def own(self, connection: Connection | None, server: str | None = None) -> None:
        """Make CONNECTION the owner (None: no owner); with SERVER it gets only keys of that server or region."""
        self.owner, self.server = connection, server
        self.holder = processes.owner_of(connection.peer.pid) if connection else ""
        if connection is None:
            self.freed.set()
        else:
            self.freed.clear()

    def hold(self, lease: Lease) -> None:
        """Make LEASE the slot's lease."""
        self.lease, self.generation = lease, lease.generation
        self.reading = self.counted_at = None

    def holds(self, lease: Lease) -> bool:
        """Whether the slot's tunnel is open and has LEASE."""
        return self.state in OPEN and self.lease is not None and self.lease.id == lease.id

    def count(self, reading: Reading) -> None:
        """Store READING, which was read from the slot's device just now."""
        self.reading, self.counted_at = reading, _now()

    @property
    def held(self) -> Held | None:
        """What the kernel should have for this slot; None: nothing."""
        if self.lease is None or self.state is SlotState.SEALED:
            return None
        lease, open_ = self.lease, self.state in OPEN and not self.repairing
        return Held(key=lease.key, endpoint=lease.endpoint, open=open_, generation=lease.generation)
