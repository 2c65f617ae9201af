"""Stops and starts single workers for the hub's page, and does nothing else.

Only root may use supervisord's socket, and whoever can use it controls everything. So this program stands between: it
runs as root without any capability, and answers only the hub's UID, only two requests (each with the name of a worker),
at a bounded rate. It runs only where `hub.web.acts` names one of them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fleet import log, snapshot
from fleet.errors import FleetError, NotAllowed, TryLater, Unavailable, UsageError
from fleet.machine import lockfile
from fleet.model import HUB_ACCOUNT, Fleet, Paths
from fleet.programs import Installation
from fleet.sockets import acts_api
from fleet.sockets.acts_api import Start, Stop
from fleet.sockets.callers import Caller, Connection, Limits, only
from fleet.sockets.rpc import Server
from fleet.sockets.wire import Done
from fleet.supervise import ProgramState, Supervisor, wait_until
from fleet.terminal import console

_SETTLED_SECONDS = 10.0
_RUNS = ("RUNNING", "STARTING", "BACKOFF")


class Acts:
    """A method for each row of fleet.sockets.acts_api.TABLE (fleet.sockets.rpc.Service)."""

    def __init__(self, fleet: Fleet, paths: Paths) -> None:
        self._fleet, self._paths = fleet, paths
        self._supervisor = Supervisor(Installation(paths=paths))
        # One thread: requests are carried out in order.
        self._thread = ThreadPoolExecutor(1, "supervisord")
        self._log = log.get("acts")

    async def stop(self, _: Connection, request: Stop) -> Done:
        """Stop the worker; supervisord does not start it again."""
        return await self._act("stop", request.worker, self._stop)

    async def start(self, _: Connection, request: Start) -> Done:
        """Start the worker."""
        return await self._act("start", request.worker, self._start)

    async def closed(self, connection: Connection) -> None:
        """Connections have no state here."""

    async def _act(self, what: str, name: str, do: Callable[[str], None]) -> Done:
        if what not in self._fleet.hub.web.acts:
            raise NotAllowed(f"hub.web.acts does not name {what}")
        if name not in {worker.name for worker in self._fleet.members}:
            raise UsageError(f"there is no worker {name!r}")
        await asyncio.get_running_loop().run_in_executor(self._thread, self._alone, do, f"worker:{name}")
        self._log.info("act.done", what=what, worker=name)
        return Done()

    def _alone(self, do: Callable[[str], None], program: str) -> None:
        """Run DO while no `fleet reload` or `fleet verify` runs: these start again the workers that they stopped."""

        def busy(holder: str) -> TryLater:
            return TryLater(f"another fleet command is running (process {holder})", hint="try again when it has ended")

        with lockfile.held(lockfile.opened(self._paths.operator_lock), busy):
            do(program)

    def _stop(self, program: str) -> None:
        wait_until(lambda: self._ends(program), _SETTLED_SECONDS, lambda: f"{program} is {self._seen(program).state}")

    def _ends(self, program: str) -> bool:
        """Whether PROGRAM is stopping or stopped for good; if not, ask supervisord to stop it."""
        seen = self._seen(program)
        if seen.state in ("STOPPING", "STOPPED") or seen.ended:
            return True
        try:
            if seen.state == "FATAL":  # fleet.operate.rearm would start it again, and only a running one can be stopped
                self._supervisor.begin_program(program)
            if seen.state in (*_RUNS, "FATAL"):
                self._supervisor.end_program(program)
        except Unavailable:
            raise
        except FleetError:
            pass  # supervisord refuses: the program's state has changed since, so it is read again
        return False  # EXITED is about to be started again

    def _start(self, program: str) -> None:
        state = self._seen(program).state
        if state == "STOPPING":
            raise TryLater("it is still stopping", hint="try again in some seconds")
        if state not in _RUNS:
            self._supervisor.begin_program(program)

    def _seen(self, program: str) -> ProgramState:
        for one in self._supervisor.states():
            if one.name == program:
                return one
        raise Unavailable(f"supervisord does not know {program}")


async def serve(fleet: Fleet, paths: Paths) -> None:
    """Serve until SIGTERM or SIGINT."""
    hub, limits = only(HUB_ACCOUNT, Caller.HUB), Limits(rates={acts_api.ACTS: acts_api.RATE})
    server = Server(acts_api.TABLE, Acts(fleet, paths), caller=hub, limits=limits)
    await server.serve(paths.acts_socket, may=[*fleet.hub.web.acts])


def _run(_: argparse.Namespace) -> None:
    paths = Paths.from_environment()
    asyncio.run(serve(snapshot.read(paths.snapshot).fleet, paths))


def main() -> None:
    """Run under supervisord."""
    made = console.parser("acts", "Stop and start workers for the hub's page.", "run by supervisord")
    made.set_defaults(run=_run, parser=made)
    console.main(made)


if __name__ == "__main__":
    main()
