"""`lab`: the small internet for the demo, the tests and the benchmarks."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys

from fleet.errors import ExitCode, TryLater, UsageError
from fleet.terminal import console
from lab.net import Lab


def _lab(arguments: argparse.Namespace) -> Lab:
    console.require_root(f"bin/lab {arguments.verb}")
    asked = vars(arguments)
    return Lab(arguments.lab, **{name: asked[name] for name in ("servers", "keys", "ipv6") if name in asked})


def _up(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    lab.up()
    return _status(arguments)


def _down(arguments: argparse.Namespace) -> int:
    lab = _lab(arguments)
    stood = lab.status().state != "down"
    lab.down()
    console.say(f"lab {lab.name}: removed" if stood else f"lab {lab.name}: there was nothing to remove")
    return ExitCode.DONE


def _status(arguments: argparse.Namespace) -> int:
    """0 up, 1 down or broken."""
    status = _lab(arguments).status()
    if arguments.json:
        console.print_json(dataclasses.asdict(status))
    else:
        console.show(f"lab {status.name}: {status.state}, {status.servers} VPN servers, {status.keys} client keys")
        if status.missing:
            console.show(f"missing: {', '.join(status.missing)}")
        rows = [(one.namespace, str(one.pid), one.command[:90]) for one in status.processes]
        if rows:
            console.print_table("processes", ("namespace", "pid", "command"), sorted(rows))
    return ExitCode.DONE if status.state == "up" else ExitCode.FAILED


def _exec(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        raise UsageError("name the program to run", hint=f"lab exec {arguments.host} -- ip address")
    _become(arguments, arguments.command)
    return ExitCode.INTERNAL


def _shell(arguments: argparse.Namespace) -> int:
    _become(arguments, [os.environ.get("SHELL", "/bin/sh")])
    return ExitCode.INTERNAL


def _become(arguments: argparse.Namespace, command: list[str]) -> None:
    lab = _lab(arguments)
    hosts = [name.removeprefix(f"{lab.name}-") for name in lab.places.recorded().namespaces]
    if lab.status().state == "down":
        raise TryLater(f"the lab {lab.name} is not up", hint=f"bin/lab up --lab {lab.name}")
    if arguments.host not in hosts:
        raise UsageError(f"the lab {lab.name} has no host {arguments.host!r}", hint=f"hosts are {', '.join(hosts)}")
    sys.stdout.flush()
    argv = lab.command(arguments.host, command)
    os.execv(argv[0], argv)  # noqa: S606 - becoming the user's program is the purpose


def build(command: list[str]) -> console.Parser:
    """The command line; COMMAND is what came after `--`, which argparse cannot tell from the lab's own options."""
    made = console.parser("lab", "A small internet in network namespaces.", "lab up && lab exec host -- ip address")
    verbs = made.add_subparsers(dest="verb", metavar="VERB")
    up = console.command(verbs, "up", _up, "make it, if it is not up", "lab up --servers 3 --keys 10")
    up.add_argument("--servers", type=int, default=3, help="VPN servers (default 3)")
    up.add_argument("--keys", type=int, default=10, help="client keys of each server (default 10)")
    up.add_argument("--ipv6", action="store_true", help="tunnels carry IPv6 as well")
    down = console.command(verbs, "down", _down, "remove every trace of it", "lab down")
    status = console.command(verbs, "status", _status, "show what exists of it", "lab status --json")
    run = console.command(verbs, "exec", _exec, "run a program inside a host", "lab exec host -- ip address")
    shell = console.command(verbs, "shell", _shell, "a shell inside a host", "lab shell vpn1")
    for verb in (up, status):
        verb.add_argument("--json", action="store_true", help="answer as JSON")
    for verb in (up, down, status, run, shell):
        verb.add_argument("--lab", default="lab", metavar="NAME", help="which lab (default: lab)")
    for verb in (run, shell):
        verb.add_argument("host", help="isp, web, host, vpn1 ...")
    run.usage = "lab exec [-h] [--lab NAME] HOST -- PROGRAM [ARGUMENT ...]"
    run.set_defaults(command=command)
    return made


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    console.main(build(words[end + 1 :]), words[:end])


if __name__ == "__main__":
    main()
