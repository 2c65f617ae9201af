"""What the launcher is told about one worker: `worker prepare` writes it, the launcher reads it.

Standard library only, and the least of it (`dataclasses` takes 6 ms to load): the launcher runs as root before every
worker.
"""

from __future__ import annotations

import json
from typing import NamedTuple

POLICY_FOLDERS = ("chromium/policies/managed", "opt/chrome/policies/managed")
"""Below /etc: where Chromium (Debian) and Google Chrome look for policies."""

NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""
"""A worker's /etc/nsswitch.conf: no name is asked of anything but files and the resolvers of resolv.conf."""


class LaunchSpec(NamedTuple):
    """What the launcher is told; one JSON object with these fields."""

    uid: int
    account: str
    """The passwd name the UID must have."""
    argv: list[str]
    environment: dict[str, str]
    home: str
    lock: str
    etc: dict[str, str]
    """Files below /etc that the worker sees instead of, or beside, the host's: path -> content."""
    keep: list[str]
    """Folders of the fleet's that stay visible where /run and its like are hidden."""
    write: list[str]
    """Folders that the worker may write to, beside its own /tmp and /dev/shm."""
    ports: list[int]
    """TCP ports that the worker may listen on: its browser's."""
    user_namespaces: bool
    """Ordinary users may make user namespaces here: Chrome's sandbox then needs no set-UID helper, and no program may
    give the worker a right that it has not."""
    denied_calls: str
    """The seccomp filter, in base64 (worker/seccomp.py)."""
    open_files: int
    processes: int
    """Threads included, as RLIMIT_NPROC counts them: for the UID, which is this worker alone."""
    memory_mebibytes: int
    """Of the control group; 0: no limit."""
    cpu_weight: int
    io_weight: int
    sockets: int
    """Of the internet, at one time."""
    cgroup: str
    """The folder of the worker's control group; "": there is none."""
    file_mebibytes: int
    """The largest file, those in memory included."""
    tmp_mebibytes: int
    death_signal: int
    """Sent to the worker when its parent, the supervisor, is gone."""
    space: str = ""
    """The name (a path) of the network namespace to enter; "": stay."""

    @classmethod
    def of_json(cls, text: str) -> LaunchSpec:
        """What TEXT says; raises ValueError or TypeError when it is no launch spec."""
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """What `of_json` reads."""
        return json.dumps(self._asdict(), indent=1)
