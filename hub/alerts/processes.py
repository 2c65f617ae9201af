"""Runs the parts of alerts that must not run inside the hub: one question, one answer, a deadline."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.sockets.deadline import within

_LAUNCH = Path(__file__).resolve().parents[2] / "launch.py"


async def asked(module: str, question: Mapping[str, Any], *content: bytes, seconds: float) -> dict[str, Any]:
    """What MODULE answers to QUESTION and CONTENT; raises asyncio.TimeoutError, and ValueError without a usable answer.

    All input goes through standard input, because it may be secret.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(_LAUNCH), module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        given = b"".join((json.dumps(question).encode(), b"\n", *content))
        out, _ = await within(seconds, process.communicate(given))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(out)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ValueError(f"its process ended with {process.returncode} and no answer")
    return answer
