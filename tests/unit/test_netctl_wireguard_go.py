"""Connections to wireguard-go: kept for the next question, and never for another one's answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest

from netctl.wireguard import wireguard_go
from netctl.wireguard.wireguard_go import UserspaceWireGuard

WG = "wg150"


class Program:
    """Answers at a socket like wireguard-go: any number of questions over a connection, each with its port."""

    def __init__(self, folder: Path, port: int, interface: str = WG) -> None:
        self._path, self._port = folder / f"{interface}.sock", port
        self.connections: list[asyncio.StreamWriter] = []
        self.answers = asyncio.Event()
        self.answers.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Program]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            yield self
        finally:
            server.close()
            for connection in self.connections:
                connection.close()
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\n\n"):
                await self.answers.wait()
                writer.write(f"public_key={'b' * 64}\nendpoint=192.0.2.1:{self._port}\nerrno=0\n\n".encode())
        writer.close()


def run(work: Callable[[UserspaceWireGuard], Coroutine[object, object, None]], folder: Path) -> None:
    asyncio.run(work(UserspaceWireGuard(folder)))


async def port(wireguard: UserspaceWireGuard, interface: str = WG) -> int | None:
    """Which program has answered."""
    reading = await wireguard.read(interface)
    return reading.device.peer.endpoint.port if reading and reading.device.peer else None


def test_questions_in_a_row_share_a_connection(tmp_path: Path) -> None:
    """Two at once have one each, and one of the two stays."""

    async def work(wireguard: UserspaceWireGuard) -> None:
        async with Program(tmp_path, 1).running() as program:
            for _ in range(3):
                assert await port(wireguard) == 1
            assert len(program.connections) == 1
            assert {*await asyncio.gather(port(wireguard), port(wireguard))} == {1}
            assert await port(wireguard) == 1
            assert len(program.connections) == 2

    run(work, tmp_path)


def test_another_program_is_asked_over_a_connection_of_its_own(tmp_path: Path) -> None:
    """The one that was asked before has ended; with none in its place there is no device."""

    async def work(wireguard: UserspaceWireGuard) -> None:
        for number in (1, 2):
            async with Program(tmp_path, number).running():
                assert await port(wireguard) == number
                assert await port(wireguard) == number
        assert await port(wireguard) is None

    run(work, tmp_path)


def test_an_answer_that_nobody_waits_for_is_not_the_next_ones(tmp_path: Path) -> None:
    """A question that is given up takes its connection with it."""

    async def work(wireguard: UserspaceWireGuard) -> None:
        async with Program(tmp_path, 1).running() as program:
            assert await port(wireguard) == 1
            program.answers.clear()
            asking = asyncio.ensure_future(port(wireguard))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            program.answers.set()
            assert await port(wireguard) == 1
            assert len(program.connections) == 2

    run(work, tmp_path)


def test_few_connections_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more devices those that were asked last keep theirs: with 512 workers netctl has few descriptors to spare."""
    monkeypatch.setattr(wireguard_go, "MOST_KEPT", 2)

    async def work(wireguard: UserspaceWireGuard) -> None:
        async with contextlib.AsyncExitStack() as stack:
            names = ["wg150", "wg151", "wg152"]
            programs = [await stack.enter_async_context(Program(tmp_path, 1, name).running()) for name in names]
            for name in (*names, "wg152", "wg151", "wg150"):
                assert await port(wireguard, name) == 1
            assert [len(program.connections) for program in programs] == [2, 1, 1]

    run(work, tmp_path)
