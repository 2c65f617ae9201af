"""The operator's program: `fleet VERB`. Every verb and its options; fleet.operate.verbs holds what most of them do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from fleet.backends import BACKENDS
from fleet.machine.interrupts import Stopped
from fleet.operate import hub, init, journal, reload, trial, uninstall, verbs, watching
from fleet.terminal import console, hub_words


def main() -> NoReturn:
    made = console.parser(
        "fleet", "A fleet of browsers, each behind its own tunnel.", "fleet run --workers 8 --loops 2"
    )
    nouns = made.add_subparsers(metavar="VERB", parser_class=console.Parser)
    _add_start_and_stop(nouns)
    _add_inspection(nouns)
    _add_accounts(nouns)
    hub_words.add(nouns, lambda _: hub.ask, root=False)
    try:
        console.main(made)
    except Stopped as stopped:
        console.say(f"fleet: stopped by {stopped}; nothing is left running")
        sys.exit(stopped.exit_code)


def _add_start_and_stop(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    command = partial(console.command, nouns, root=True)
    words = "write fleet.toml, from flags and from what it asks you"
    made = command("init", init.init, words, "sudo fleet init --url https://shop.example/ --from *.conf")
    made.add_argument("--url", metavar="URL", help="the page to watch")
    words = "a resolver, reached through the tunnels; may be repeated"
    made.add_argument("--resolver", action="append", default=[], metavar="ADDRESS", help=words)
    words = "an https service that answers with the caller's address; may be repeated"
    made.add_argument("--exit-echo", action="append", default=[], metavar="URL", help=words)
    words = "your WireGuard files: their `DNS =` becomes dns.resolvers, each key a worker, up to eight"
    made.add_argument("--from", dest="files", nargs="+", default=[], metavar="FILE.conf", help=words)
    _add_workers(made)
    up = command("up", verbs.up, "start the whole fleet; when it runs already, say so", "fleet up")
    up.add_argument("--foreground", action="store_true", help="keep running; end the fleet on SIGTERM (for systemd)")
    _add_workers(up)
    words = (
        "apply [task], [loop], [browser] and workers.count of fleet.toml, each worker at the end of its loop "
        "(exit 1: not all applies)"
    )
    command("reload", reload.reload, words, "fleet reload")
    command("down", verbs.down, "end the whole fleet and take it out of the kernel", "fleet down")
    words, example = "supervisor's own tool on this fleet", "fleet supervisorctl restart worker:w1103"
    ctl = command("supervisorctl", verbs.supervisorctl, words, example)
    ctl.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="status, start, stop, restart, tail -f ...")
    words = "start everything, let every worker do its loops, report, stop everything"
    run = command("run", verbs.run_loops, words, "fleet run --workers 8 --loops 2", answers=True)
    _add_workers(run)
    run.add_argument("--loops", type=console.positive, default=1, metavar="L", help="loops of each worker (default 1)")


def _add_inspection(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    command = partial(console.command, nouns)
    words = "print the supervisord.conf that `fleet up` would use"
    render = command("render", verbs.render, words, "fleet render | less")
    words = "the WireGuard backend; without it netctl finds out which (needs root)"
    render.add_argument("--backend", choices=tuple(BACKENDS), help=words)
    _add_workers(render)
    words = "the workers, their tunnels and their last loops"
    command("status", verbs.show_status, words, "fleet status", root=True, answers=True)
    words = "the hub's page in a terminal: workers, watches and sites, the worst first (with --json a line each change)"
    watch = command("watch", watching.watch, words, "sudo fleet watch", answers=True)
    watch.add_argument("--port", type=console.positive, metavar="PORT", help="where the page is (hub.web.port)")
    words = "what supervisord, netctl and the workers have logged, in the order of time (UTC)"
    log = command("log", journal.show, words, "fleet log -f --worker w1103", root=True, answers=True)
    log.add_argument("-f", "--follow", action="store_true", help="go on with new lines as they are logged")
    console.worker(log, "only lines of this worker, or about it")
    log.add_argument("--around", metavar="LOOP", help="the lines from while this loop ran, like w1103/always-000007")
    log.add_argument("--lines", type=console.positive, default=100, metavar="N", help="the last N (default 100)")
    words = "check whether this machine is fit for a fleet, and how to repair it (exit 1 when an error remains)"
    doctor = command("doctor", verbs.doctor, words, "sudo fleet doctor --fix", root=True, answers=True)
    words = "make the safe repairs: drop-ins, left-overs; no packages, no restarts"
    doctor.add_argument("--fix", action="store_true", help=words)
    _add_workers(doctor)
    words = (
        "prove on this machine that nothing of a worker goes past its tunnel "
        "(exit 0: all holds, 1: something is broken, 75: something could not be proven)"
    )
    verify = command("verify", verbs.verify, words, "sudo fleet verify --worker w1103", root=True, answers=True)
    console.worker(verify, "which one; without it the first")
    _add_trial(command)
    words = "look for leaks only on this interface; may be repeated; without it on all but lo and the tunnels"
    verify.add_argument("--interface", action="append", default=[], metavar="NAME", help=words)


def _add_trial(command: Callable[..., console.Parser]) -> None:
    words = "one loop now, with its answer and one picture; nothing is stored (exit 1: the outcome is not good)"
    made = command("try", trial.attempt, words, "sudo fleet try --task watch.toml", root=True, answers=True)
    made.add_argument(
        "url", nargs="?", metavar="URL", help="visit this page; without it and --task what fleet.toml says"
    )
    made.add_argument("--task", metavar="FILE", help="a TOML file with [task], as in fleet.toml")
    console.worker(made, "which one; without it the first")
    words = "through a key of this server (netctl keys list)"
    console.completed(made.add_argument("--exit", metavar="NAME", help=words), console.SERVERS)


def _add_accounts(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    noun = nouns.add_parser("accounts", help="the users under which everything runs", example="fleet accounts make")
    command = partial(console.command, noun.add_subparsers(metavar="VERB", required=True), root=True)
    make = command("make", verbs.make_accounts, "make what is missing", "fleet accounts make")
    _add_workers(make)
    make.add_argument("--netctl", action="store_true", help="only netctl's account, which needs no settings")
    words = "delete every account of the fleet (fleet down first)"
    command("remove", verbs.remove_accounts, words, "fleet accounts remove")
    words = "list everything of the fleet on this machine, then remove it (fleet down first)"
    made = console.command(nouns, "uninstall", uninstall.uninstall, words, "sudo fleet uninstall", root=True)
    made.add_argument("--keys-and-results", action="store_true", help="also the keys, all results and your own tasks")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="the number of workers, instead of workers.count")


if __name__ == "__main__":
    main()
