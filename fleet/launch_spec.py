"""The launcher's input for one worker: `worker prepare` writes it, the launcher reads it.

Standard library only, and as little of it as possible (`dataclasses` takes 6 ms to load): the launcher runs as root
before every worker.
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
"""A worker's /etc/nsswitch.conf: names are looked up only in files and with the resolvers of resolv.conf."""


class LaunchSpec(NamedTuple):
    """One JSON object with these fields."""

    uid: int
    account: str
    """The passwd name the UID must have."""
    argv: list[str]
    environment: dict[str, str]
    home: str
    lock: str
    etc: dict[str, str]
    """Files below /etc that replace, or are added to, the host's for this worker: path -> content."""
    keep: list[str]
    """Folders of the fleet that stay visible where /run and similar folders are hidden."""
    write: list[str]
    """Folders that the worker may write to, in addition to its own /tmp and /dev/shm."""
    ports: list[int]
    """TCP ports that the worker may listen on: its browser's."""
    user_namespaces: bool
    """Whether ordinary users may make user namespaces here: Chrome's sandbox then needs no set-UID helper, and the
    launcher lets no program give the worker additional rights."""
    denied_calls: str
    """The seccomp filter, in base64 (worker/seccomp.py)."""
    open_files: int
    processes: int
    """Threads included, as RLIMIT_NPROC counts them: per UID, which only this worker has."""
    memory_mebibytes: int
    """Limit of the control group; 0: no limit."""
    cpu_weight: int
    io_weight: int
    sockets: int
    """Internet sockets (TCP and UDP) at one time."""
    cgroup: str
    """The folder of the worker's control group; "": none."""
    file_mebibytes: int
    """The largest file, those in memory included."""
    tmp_mebibytes: int
    death_signal: int
    """The signal that the worker gets when its parent, the supervisor, ends."""
    space: str = ""
    """The path of the network namespace to enter; "": stay in the host's."""

    @classmethod
    def of_json(cls, text: str) -> LaunchSpec:
        """The spec in TEXT; raises ValueError or TypeError when it is no launch spec."""
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """The text that `of_json` reads."""
        return json.dumps(self._asdict(), indent=1)
