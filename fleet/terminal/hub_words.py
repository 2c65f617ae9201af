"""The words of the commands about the hub's database, jobs, results, page and sites.

`fleet` knows them, for an operator to type, and so does `hub`, which does them under its own account.
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
    """The TEXT of an option as a job's number."""
    if len(text) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no number of a job")
    return console.positive(text)


def add(nouns: argparse._SubParsersAction[console.Parser], run_of: Callable[[str], Run], *, root: bool) -> None:
    """Add the nouns to NOUNS; RUN_OF gives what does `NOUN VERB`. ROOT: they are for root alone."""

    def noun(name: str, help: str, example: str) -> Verb:
        made = nouns.add_parser(name, help=help, example=example)
        verbs = made.add_subparsers(metavar="VERB", required=True)

        def verb(word: str, help: str, example: str, *, answers: bool = True) -> console.Parser:
            run = run_of(f"{name} {word}")
            return console.command(verbs, word, run, help, f"fleet {name} {example}", root=root, answers=answers)

        return verb

    _databases(noun("db", "the hub's database", "fleet db upgrade"))
    _jobs(noun("job", "what workers are to do", "fleet job add query=desk"))
    _results(noun("result", "what has come of it", "fleet result list"))
    _alerts(noun("alert", "what of the rules in [hub.alerts] lasts", "fleet alert list"))
    _pages(noun("page", "who may look at it", "fleet page link"))
    _sites(noun("site", "how often each site is asked, by all workers", "fleet site list"))


def _databases(verb: Verb) -> None:
    words = "bring its tables up to this release, before the hosts; those of the release before go on meanwhile"
    verb("upgrade", words, "upgrade")
    verb("status", "say which version its tables are of; fail (78) where this release cannot use them", "status --json")


def _jobs(verb: Verb) -> None:
    words = "put jobs into the queue: one by its arguments, many from a file, one JSON object or CSV row each"
    new = verb("add", words, 'add --every 3600 "query=wireless keyboard"')
    words = "an option of its task: NAME=TEXT, or NAME:=JSON; those of [task.options] are in place of what is not said"
    new.add_argument("arguments", nargs="*", metavar="NAME=TEXT", help=words)
    words = "JSON Lines, or CSV whose first row has the names; - is standard input. The options here are for each of it"
    new.add_argument("--file", metavar="FILE", help=words)
    new.add_argument("--task", metavar="NAME", help="what to do; without it what [task] says")
    words = "whose pace it keeps; without it the host's name in the addresses of its arguments"
    new.add_argument("--site", metavar="NAME", help=words)
    words = "a name of yours: what was added under it once is not added again, done or not"
    new.add_argument("--key", metavar="NAME", help=words)
    new.add_argument("--priority", choices=("high", "normal", "low"), help="who begins first (normal)")
    new.add_argument("--not-before", metavar="TIME", help="such as 2026-12-01T09:00+09:00")
    new.add_argument("--every", metavar="SECONDS", help="again and again, on the beat of the first time")
    new.add_argument("--cron", metavar="WORDS", help='again by crontab(5): "0 9 * * 1-5"')
    new.add_argument("--zone", metavar="NAME", help="the time zone of --cron, such as Asia/Seoul (UTC)")
    new.add_argument("--attempts", metavar="N", help="runs that may fail until it lies aside (3)")
    words = "where it comes out (any): same (as its first run), or servers and regions such as KR,JP: a job for each"
    new.add_argument("--exits", metavar="WORDS", help=words)
    words = "make the queue's jobs of a name those of a file; without --yes it only says what it would do (2)"
    file = verb("apply", words, "apply --yes shops.toml")
    file.add_argument("file", metavar="FILE", help="TOML: name, [usual], [jobs.NAME]; - is standard input")
    file.add_argument("--yes", action="store_true", help="do it")
    some = verb("list", "the jobs that are not done, oldest first", "list --state aside")
    some.add_argument("--state", choices=STATES, help="ready, leased to a worker, or aside: its attempts are spent")
    _page(some, "jobs after the one of this number")
    one = verb("show", "one job and its runs", "show 17")
    one.add_argument("job", type=job_number, metavar="JOB")
    words = "end jobs; one that a worker has at this moment ends with that run"
    for word, does in (("cancel", words), ("retry", "try jobs again that lie aside")):
        many = verb(word, does, f"{word} 17 18")
        many.add_argument("jobs", type=job_number, nargs="+", metavar="JOB")


def _results(verb: Verb) -> None:
    some = verb("list", "runs that have ended, the newest first", "list --outcome failed")
    some.add_argument("--outcome", choices=ENDINGS)
    _page(some, "runs before the one of this number, as JOB.FENCE")
    one = verb("show", "one run with all that is known of it", "show 17")
    one.add_argument("number", metavar="JOB[.FENCE]", help="a job's last run, or that one")
    words = "how many runs came to what, by minute (two days back), hour (90 days) or day"
    sums = verb("counts", words, "counts --by hour --since 24h")
    sums.add_argument("--by", choices=("minute", "hour", "day"), default="day", help="(%(default)s)")
    sums.add_argument("--since", metavar="TIME", default="30d", help="as of export (%(default)s)")
    sums.add_argument("--site", metavar="NAME", help="of this site alone")
    verb("uploads", "what is still to be delivered, by target", "uploads")
    verb("upload-again", "deliver now what waits or was refused", "upload-again")
    words = "all runs since a time, oldest first, as JSON Lines, CSV or Parquet on standard output"
    out = verb("export", words, "export --since 24h --format csv > runs.csv", answers=False)
    out.add_argument("--since", metavar="TIME", help="such as 2026-12-01T09:00+09:00, or 90m, 24h, 7d ago")
    out.add_argument("--format", choices=("jsonl", "csv", "parquet"), default="jsonl", help="(%(default)s)")


def _alerts(verb: Verb) -> None:
    verb("list", "what has begun and is not over, the newest first", "list")
    one = verb("handled", "somebody sees to it: say it again only when it is over", "handled cheap 17")
    one.add_argument("alert", metavar="ALERT", help="the name of its rule")
    one.add_argument("job", type=job_number, metavar="JOB")


def _pages(verb: Verb) -> None:
    words = "a link for somebody who may look at the page and change nothing; another token ends all of them"
    one = verb("link", words, "link --hours 72")
    one.add_argument("--hours", type=_hours, default=24, metavar="H", help="how long it lasts (%(default)s)")


def _hours(text: str) -> int:
    hours = console.positive(text)
    if hours > look.MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text} is more than {look.MOST_HOURS}")
    return hours


def _sites(verb: Verb) -> None:
    verb("list", "the sites that there are jobs of, or have been", "list")
    for word, does in (
        ("pause", "begin no job of a site; those that run go on"),
        ("resume", "begin jobs of it again"),
    ):
        verb(word, does, f"{word} www.example.com").add_argument("site", metavar="SITE")
    pace = verb("pace", "how often a site is asked", "pace www.example.com --interval-seconds 5 --most 1")
    pace.add_argument("site", metavar="SITE")
    words = "the least time between the beginnings of two runs"
    pace.add_argument("--interval-seconds", type=float, required=True, metavar="S", help=words)
    pace.add_argument("--most", type=console.positive, required=True, metavar="N", help="runs at one time")


def _page(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--site", metavar="NAME", help="of this site alone")
    parser.add_argument("--limit", type=console.positive, default=50, metavar="N", help="so many (%(default)s)")
    parser.add_argument("--from", dest="start", metavar="NUMBER", help=words)
