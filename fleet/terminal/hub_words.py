"""Defines the commands about the hub's database, jobs, results, alerts, page and sites.

Both `fleet`, where the operator types them, and `hub`, which runs them under its own account, use these definitions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fleet import look
from fleet.outcomes import ENDINGS
from fleet.terminal import console

Run = Callable[[argparse.Namespace], "int | None"]
Verb = Callable[..., console.Parser]
STATES = ("ready", "leased", "aside")
_MOST_DIGITS = 18


def job_number(text: str) -> int:
    """The TEXT of an option as a job's number; raises ArgumentTypeError."""
    if len(text) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no number of a job")
    return console.positive(text)


def add(nouns: argparse._SubParsersAction[console.Parser], run_of: Callable[[str], Run], *, root: bool) -> None:
    """Add the commands to NOUNS; RUN_OF returns the function for `NOUN VERB`. ROOT: only for root."""

    def noun(name: str, help: str, example: str) -> Verb:
        made = nouns.add_parser(name, help=help, example=example)
        verbs = made.add_subparsers(metavar="VERB", required=True)

        def verb(word: str, help: str, example: str, *, answers: bool = True) -> console.Parser:
            run = run_of(f"{name} {word}")
            return console.command(verbs, word, run, help, f"fleet {name} {example}", root=root, answers=answers)

        return verb

    _databases(noun("db", "the hub's database", "fleet db upgrade"))
    _jobs(noun("job", "the jobs of the workers", "fleet job add query=desk"))
    _results(noun("result", "the results of the jobs", "fleet result list"))
    _alerts(noun("alert", "the alerts of [hub.alerts] that last", "fleet alert list"))
    _pages(noun("page", "links to the hub's page", "fleet page link"))
    _sites(noun("site", "how often each site is asked, by all workers", "fleet site list"))


def _databases(verb: Verb) -> None:
    words = "upgrade its tables to this release, before the hosts; hosts of the previous release go on meanwhile"
    verb("upgrade", words, "upgrade")
    verb("status", "show the version of its tables; exit 78 when this release cannot use them", "status --json")


def _jobs(verb: Verb) -> None:
    words = "put jobs into the queue: one by its arguments, many from a file, one JSON object or CSV row each"
    new = verb("add", words, 'add --every 3600 "query=wireless keyboard"')
    words = "an option of its task: NAME=TEXT, or NAME:=JSON; options that are not given come from [task.options]"
    new.add_argument("arguments", nargs="*", metavar="NAME=TEXT", help=words)
    words = "JSON Lines, or CSV whose first row has the names; - is standard input. The other options apply to each job"
    new.add_argument("--file", metavar="FILE", help=words)
    new.add_argument("--task", metavar="NAME", help="the task; without it that of [task]")
    words = "the site whose pace applies; without it the host name in the addresses of its arguments"
    new.add_argument("--site", metavar="NAME", help=words)
    words = "your own name for it: a job with a key that was added before, done or not, is not added again"
    new.add_argument("--key", metavar="NAME", help=words)
    new.add_argument("--priority", choices=("high", "normal", "low"), help="who begins first (normal)")
    new.add_argument("--not-before", metavar="TIME", help="such as 2026-12-01T09:00+09:00")
    new.add_argument("--every", metavar="SECONDS", help="repeat it at this interval, counted from the first time")
    new.add_argument("--cron", metavar="WORDS", help='repeat it by crontab(5): "0 9 * * 1-5"')
    new.add_argument("--zone", metavar="NAME", help="the time zone of --cron, such as Asia/Seoul (UTC)")
    new.add_argument("--attempts", metavar="N", help="runs that may fail before it is set aside (3)")
    words = "its exit (any): same (as in its first run), or servers and regions such as KR,JP: one job for each"
    new.add_argument("--exits", metavar="WORDS", help=words)
    words = "make the queue's jobs of a name those of a file; without --yes it only shows the changes (exit 2)"
    file = verb("apply", words, "apply --yes shops.toml")
    file.add_argument("file", metavar="FILE", help="TOML: name, [usual], [jobs.NAME]; - is standard input")
    file.add_argument("--yes", action="store_true", help="do it")
    some = verb("list", "the jobs that are not done, oldest first", "list --state aside")
    some.add_argument("--state", choices=STATES, help="ready, leased to a worker, or aside: all attempts have failed")
    _page(some, "jobs after this number")
    one = verb("show", "one job and its runs", "show 17")
    one.add_argument("job", type=job_number, metavar="JOB")
    words = "cancel jobs; one that a worker is doing now ends with that run"
    for word, does in (("cancel", words), ("retry", "try jobs again that were set aside")):
        many = verb(word, does, f"{word} 17 18")
        many.add_argument("jobs", type=job_number, nargs="+", metavar="JOB")


def _results(verb: Verb) -> None:
    some = verb("list", "runs that have ended, the newest first", "list --outcome failed")
    some.add_argument("--outcome", choices=ENDINGS)
    _page(some, "runs before this number, as JOB.FENCE")
    one = verb("show", "one run with all that is known about it", "show 17")
    one.add_argument("number", metavar="JOB[.FENCE]", help="a job's last run, or this run of it")
    words = "the number of runs by outcome, per minute (two days back), hour (90 days) or day"
    sums = verb("counts", words, "counts --by hour --since 24h")
    sums.add_argument("--by", choices=("minute", "hour", "day"), default="day", help="(%(default)s)")
    sums.add_argument("--since", metavar="TIME", default="30d", help="as for export (%(default)s)")
    sums.add_argument("--site", metavar="NAME", help="only of this site")
    verb("uploads", "what is still to be delivered, by target", "uploads")
    verb("upload-again", "deliver now what waits or was refused", "upload-again")
    words = "all runs since a time, oldest first, as JSON Lines, CSV or Parquet on standard output"
    out = verb("export", words, "export --since 24h --format csv > runs.csv", answers=False)
    out.add_argument("--since", metavar="TIME", help="such as 2026-12-01T09:00+09:00, or 90m, 24h, 7d ago")
    out.add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl", help="(%(default)s)")


def _alerts(verb: Verb) -> None:
    verb("list", "alerts that are not over, the newest first", "list")
    one = verb("handled", "mark an alert as handled: it is not repeated until it is over", "handled cheap 17")
    one.add_argument("alert", metavar="ALERT", help="the name of its rule")
    one.add_argument("job", type=job_number, metavar="JOB")


def _pages(verb: Verb) -> None:
    words = "make a link for reading the page without changing anything; a new token ends all links"
    one = verb("link", words, "link --hours 72")
    one.add_argument("--hours", type=_hours, default=24, metavar="H", help="how long it lasts (%(default)s)")


def _hours(text: str) -> int:
    hours = console.positive(text)
    if hours > look.MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text} is more than {look.MOST_HOURS}")
    return hours


def _sites(verb: Verb) -> None:
    verb("list", "the sites of present and past jobs", "list")
    for word, does in (
        ("pause", "begin no job of a site; running ones go on"),
        ("resume", "begin jobs of a site again"),
    ):
        verb(word, does, f"{word} www.example.com").add_argument("site", metavar="SITE")
    pace = verb("pace", "set how often a site is visited", "pace www.example.com --interval-seconds 5 --most 1")
    pace.add_argument("site", metavar="SITE")
    words = "the least time between the beginnings of two runs"
    pace.add_argument("--interval-seconds", type=float, required=True, metavar="S", help=words)
    pace.add_argument("--most", type=console.positive, required=True, metavar="N", help="runs at one time")


def _page(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--site", metavar="NAME", help="only of this site")
    parser.add_argument("--limit", type=console.positive, default=50, metavar="N", help="at most N (%(default)s)")
    parser.add_argument("--from", dest="start", metavar="NUMBER", help=words)
