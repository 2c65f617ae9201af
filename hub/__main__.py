"""`hub`: jobs and their results. supervisord runs `hub serve`; an operator types the other commands as `fleet ...`."""

from __future__ import annotations

import argparse
import sys

from fleet import snapshot
from fleet.machine import processes
from fleet.terminal import console, hub_words


def main() -> None:
    """Parse and run."""
    name = "hub" if "serve" in sys.argv[1:2] else "fleet"  # errors name the program that the operator typed
    top = console.parser(name, "Jobs and their results.", "fleet job list")
    snapshot.add_option(top)
    top.add_argument("--file-is-given", action="store_true", help="read the command's FILE from standard input")
    nouns = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=console.Parser)
    hub_words.add(nouns, _run_of, root=False)
    seconds = processes.NETCTL_START_SECONDS
    words = "hand out jobs and take their results (supervisord runs this)"
    console.command(nouns, "serve", _serve, words, "hub serve", start_seconds=seconds)
    console.main(top)


def _serve(arguments: argparse.Namespace) -> None:
    import asyncio

    from fleet.model import Paths
    from hub.declared import Declared
    from hub.serve import serve

    started = snapshot.read(arguments.settings)
    asyncio.run(serve(started.fleet, Paths.from_environment(), Declared(started.tasks)))


def _run_of(words: str) -> hub_words.Run:
    from hub.commands import alerts, applying, databases, jobs, pages, results, sites

    runs: dict[str, hub_words.Run] = {
        "db upgrade": databases.upgrade,
        "db status": databases.status,
        "job add": jobs.add,
        "job apply": applying.apply,
        "job list": jobs.show_list,
        "job show": jobs.show,
        "job cancel": jobs.cancel,
        "job retry": jobs.retry,
        "result list": results.show_list,
        "result show": results.show,
        "result export": results.export,
        "result counts": results.counts,
        "result uploads": results.uploads,
        "result upload-again": results.upload_again,
        "alert list": alerts.show_list,
        "alert handled": alerts.handled,
        "page link": pages.link,
        "site list": sites.show_list,
        "site pause": sites.pause,
        "site resume": sites.resume,
        "site pace": sites.pace,
    }
    return runs[words]


if __name__ == "__main__":
    main()
