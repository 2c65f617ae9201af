"""Parses jobs from people's input: command lines, JSON Lines, CSV. Pure; every mistake names its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import JsonValue

from fleet.errors import UsageError
from fleet.model import TaskSettings
from hub.declared import UNKNOWN, Declared
from hub.queue.repeat import Cron, Interval, Repeat
from hub.queue.values import Job, Priority

FIELDS = ("task", "site", "key", "priority", "not_before", "every", "cron", "zone", "attempts", "exits")
"""The properties of a job beside its arguments."""
MOST_BYTES = 256 << 20
_MOST_TOLD = 10
_REGION = 2
"""Letters of a region (a country)."""
Said = Mapping[str, Any]
"""The FIELDS that were given, and `arguments`."""


def argument(text: str) -> tuple[str, JsonValue]:
    """NAME=TEXT or NAME:=JSON; raises ValueError."""
    name, sign, value = text.partition("=")
    typed = name.endswith(":")
    name = name.removesuffix(":").strip()
    if not (sign and name.isidentifier()):
        raise ValueError(f"{text[:100]!r} is not an argument of a job: NAME=TEXT, or NAME:=JSON")
    try:
        return name, json.loads(value) if typed else value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {value[:100]!r} is not JSON: {error}") from None


def lines(text: str) -> Iterator[tuple[int, Said | ValueError]]:
    """Each job of TEXT with its line number: JSON Lines if it begins with `{`, else CSV."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1):
            if line.strip():
                yield number, _of_json(line)
        return
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, _of_row(row)
    except csv.Error as error:
        yield reader.line_num, ValueError(f"is not CSV: {error}")


def _of_json(line: str) -> Said | ValueError:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"is not JSON: {error}")
    if not isinstance(found, dict):
        return ValueError("is not a JSON object")
    if unknown := sorted(found.keys() - {*FIELDS, "arguments"}):
        return ValueError(f"there is no {unknown[0][:50]!r}; an option of the task belongs in `arguments`")
    return found


def _of_row(row: Mapping[str | None, Any]) -> Said | ValueError:
    if None in row or None in row.values():
        return ValueError("has a different number of cells than the first row")
    said = {str(name).strip(): value for name, value in row.items() if value}
    try:  # a name with a colon at its end has JSON in its cells
        arguments = dict(argument(f"{name}={value}") for name, value in said.items() if name not in FIELDS)
    except ValueError as error:
        return error
    return {**{name: value for name, value in said.items() if name in FIELDS}, "arguments": arguments}


def jobs(
    many: Iterable[tuple[int, Said | ValueError]],
    usual: Said,
    task: TaskSettings,
    origin: str,
    targets: Collection[str] = (),
    *,
    declared: Declared = UNKNOWN,
) -> list[Job]:
    """The jobs of MANY, with the values of USUAL where they have none; raises UsageError with the first mistakes."""
    made: list[Job] = []
    wrong: list[str] = []
    for number, said in many:
        try:
            if isinstance(said, ValueError):
                raise said
            given = said.get("arguments", {})
            if not isinstance(given, dict):
                raise ValueError("arguments: is not a table of options")
            made += each({**usual, **said, "arguments": {**usual["arguments"], **given}}, task, targets, declared)
        except ValueError as error:
            wrong.append(f"{origin}, line {number}: {error}")
            if len(wrong) == _MOST_TOLD:
                break
    if wrong:
        raise UsageError("\n".join(wrong), hint="correct these lines; nothing was added")
    if not made:
        raise UsageError(f"{origin} holds no job", hint="JSON Lines, or CSV whose first row has the names")
    return made


def each(said: Said, task: TaskSettings, targets: Collection[str] = (), declared: Declared = UNKNOWN) -> list[Job]:
    """The job that SAID describes, or one for each of its exits. Raises ValueError."""
    one, words = job(said, task, targets, declared), said.get("exits")
    exits = (words or "any").split(",") if words is None or isinstance(words, str) else words
    if not (isinstance(exits, list) and exits and all(isinstance(word, str) and word.strip() for word in exits)):
        raise ValueError(f"exits: {str(words)[:50]!r} is not any, same, or servers and regions such as KR, JP")
    names = [word.strip().upper() if len(word.strip()) == _REGION else word.strip() for word in exits]
    if len(names) == 1:
        name = "" if names[0] in ("any", "same") else names[0]
        return [replace(one, exit=name, same_exit=names[0] == "same")]
    if len({*names}) < len(names) or {"any", "same"} & {*names}:
        raise ValueError("exits: a list contains servers and regions, each of them once")
    return [replace(one, exit=name, key=one.key and f"{one.key}@{name}") for name in names]


def job(
    said: Said,
    task: TaskSettings,
    targets: Collection[str] = (),
    declared: Declared = UNKNOWN,
    *,
    patience_seconds: float | None = None,
) -> Job:
    """The job that SAID describes, for TARGETS; options of [TASK] fill what it leaves out.

    Raises ValueError, also for options that the task does not accept.
    """
    name = _text(said, "task") or task.run
    arguments = {**(task.options if name == task.run else {}), **said["arguments"]}
    declared.check(name, arguments)
    return Job(
        site=(_text(said, "site") or _site(arguments)).lower(),
        task=name,
        arguments=arguments,
        key=_text(said, "key"),
        priority=_priority(_text(said, "priority") or "normal"),
        not_before=_moment("not_before", text) if (text := _text(said, "not_before")) else None,
        repeat=_repeat(said),
        targets=tuple(targets),
        patience_seconds=patience_seconds,
        attempts=3 if (attempts := _number(said, "attempts")) is None else int(attempts),
    )


def _site(arguments: Mapping[str, JsonValue]) -> str:
    """The host in the addresses of ARGUMENTS."""
    found = {urlsplit(text).hostname or "" for text in _texts(arguments) if text.startswith(("https://", "http://"))}
    hosts = sorted(found - {""})
    if len(hosts) != 1:
        named = f"names the sites {', '.join(hosts)[:200]}" if hosts else "names no address of a site"
        raise ValueError(f"site: the job {named}; name the site whose pace it keeps: --site, or `site` in the file")
    return hosts[0]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _repeat(said: Said) -> Repeat | None:
    every, cron, zone = _number(said, "every"), _text(said, "cron"), _text(said, "zone")
    if every is not None and cron is not None:
        raise ValueError("every and cron: one of them")
    if zone is not None and cron is None:
        raise ValueError("zone: belongs to cron")
    try:
        return Interval(every) if every is not None else Cron(cron, zone or "UTC") if cron is not None else None
    except ValueError as error:
        raise ValueError(f"{'every' if every is not None else 'cron'}: {error}") from None


def _priority(text: str) -> Priority:
    try:
        return Priority[text.upper()]
    except KeyError:
        raise ValueError(f"priority: {text[:50]!r} is not high, normal or low") from None


def _moment(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{name}: {text[:50]!r} is not a time such as 2026-12-01T09:00+09:00") from None
    if found.tzinfo is None:
        raise ValueError(f"{name}: {text[:50]!r} has no time zone, such as +09:00 at its end")
    return found


def _text(said: Said, name: str) -> str | None:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: {value!r} is not text")
    return value or None


def _number(said: Said, name: str) -> float | None:
    value = said.get(name)
    if value is None or value == "":
        return None
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None or (name == "attempts" and not found.is_integer()):
        raise ValueError(f"{name}: {str(value)[:50]!r} is not a number")
    return found
