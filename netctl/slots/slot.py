"""A slot: one worker's tunnel as a small state machine. What may follow what is one table.

    sealed ──connect──▶ connecting ──ready──▶ connected ──rotate──▶ connecting
       ▲                    │                     │
       └──────end───────────┴─────────end─────────┤
       │                                          │ (netctl restarts: adopt)
       └──────────end────────── orphaned ◀────────┘
                                   │ resume ──▶ connected

Every state but `connected` and `orphaned` has its gate closed: failure is the blocked state.
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
    """Where a slot is."""

    SEALED = "sealed"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    ORPHANED = "orphaned"


class Event(enum.Enum):
    """What happens to a slot."""

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
    """The process behind the owner, as fleet.machine.processes names it."""
    server: str | None = None
    """The only one whose keys the owner wants."""
    lease: Lease | None = None
    generation: int = 0
    handshake_ms: float = 0.0
    reading: Reading | None = None
    """The lease's device when it was last read, at `counted_at`."""
    counted_at: datetime | None = None
    since: datetime = field(default_factory=_now)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no connection owns the slot."""
    repairing: bool = False
    """Its device is being replaced, or could not be: the gate is closed in every state."""
    unconfirmed: bool = False
    """Sealed, but its device or the key store has not confirmed that yet: its key is not handed out."""

    def __post_init__(self) -> None:
        self.freed.set()

    def step(self, event: Event) -> None:
        """Take the transition; raises FleetError for one that is not in the table."""
        after = TRANSITIONS.get((self.state, event))
        if after is None:
            raise FleetError(f"slot {self.worker.name} is {self.state.value}: it cannot {event.value}")
        if after is not self.state:
            self.state, self.since = after, _now()

    def own(self, connection: Connection | None, server: str | None = None) -> None:
        """Hand the slot to CONNECTION, None: to no connection; with SERVER its keys are that one's alone."""
        self.owner, self.server = connection, server
        self.holder = processes.owner_of(connection.peer.pid) if connection else ""
        if connection is None:
            self.freed.set()
        else:
            self.freed.clear()

    def hold(self, lease: Lease) -> None:
        """The slot's tunnel is now LEASE's."""
        self.lease, self.generation = lease, lease.generation
        self.reading = self.counted_at = None

    def holds(self, lease: Lease) -> bool:
        """Whether LEASE is that of its open tunnel."""
        return self.state in OPEN and self.lease is not None and self.lease.id == lease.id

    def count(self, reading: Reading) -> None:
        """The slot's device was read just now."""
        self.reading, self.counted_at = reading, _now()

    @property
    def held(self) -> Held | None:
        """What the kernel should hold for this slot."""
        if self.lease is None or self.state is SlotState.SEALED:
            return None
        lease, open_ = self.lease, self.state in OPEN and not self.repairing
        return Held(key=lease.key, endpoint=lease.endpoint, open=open_, generation=lease.generation)
