"""Jobs as people write them: arguments, JSON Lines, CSV; every mistake is reported with its line."""

from __future__ import annotations

import json

import pytest

from fleet.errors import UsageError
from fleet.model import TaskSettings
from hub import entering
from hub.queue.repeat import Cron, Interval
from hub.queue.values import Job, Priority

TASK = TaskSettings(run="search", options={"home": "https://Shop.example/", "query": "tea", "search_box": "#q"})
NOTHING: entering.Said = {"arguments": {}}


def read(text: str, usual: entering.Said = NOTHING) -> list[Job]:
    """The jobs of a file."""
    return entering.jobs(entering.lines(text), usual, TASK, "x")


def wrong(text: str, usual: entering.Said = NOTHING) -> str:
    """The error for a file with a mistake."""
    with pytest.raises(UsageError) as caught:
        read(text, usual)
    return caught.value.message


def test_options_of_the_task_stand_where_a_job_says_nothing() -> None:
    """The options of [task] apply to jobs of that task; the site is the host of their addresses."""
    (job,) = read('{"arguments": {"query": "커피"}}')
    assert (job.task, job.site) == ("search", "shop.example")
    assert job.arguments == {"home": "https://Shop.example/", "query": "커피", "search_box": "#q"}
    (other,) = read('{"task": "visit", "arguments": {"urls": ["https://a.example:8443/x"]}}')
    assert (other.arguments, other.site) == ({"urls": ["https://a.example:8443/x"]}, "a.example")


def test_json_lines_and_csv_say_the_same() -> None:
    """Names of a job's own are its own, all others options; a name with a colon has JSON in its cells."""
    lines = [
        {"key": "a", "priority": "high", "every": 60, "arguments": {"query": "1", "items": [2]}},
        {"key": "b", "arguments": {"query": "x,\ny"}},
    ]
    table = '\ufeffkey,priority,every,query,items:\na,high,60,1,[2]\nb,,,"x,\ny",\n'
    assert read(table) == read("\n".join(map(json.dumps, lines)))
    first, second = read(table)
    assert (first.priority, first.repeat, first.arguments["items"]) == (Priority.HIGH, Interval(60), [2])
    assert (second.priority, second.repeat, second.arguments["query"]) == (Priority.NORMAL, None, "x,\ny")


def test_what_the_command_line_says_is_for_every_line() -> None:
    """It applies unless the line says otherwise."""
    usual = {"cron": "0 9 * * *", "zone": "Asia/Seoul", "arguments": {"query": "a", "wait_seconds": 3}}
    one, two = read('{"arguments": {"query": "b"}}\n\n{"attempts": 1}', usual)
    assert (one.repeat, one.arguments["query"], one.arguments["wait_seconds"]) == (
        Cron("0 9 * * *", "Asia/Seoul"),
        "b",
        3,
    )
    assert (two.attempts, two.arguments["query"]) == (1, "a")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ('{"query": "x"}', "there is no 'query'"),
        ('{"arguments": [1]}', "arguments"),
        ('{"arguments": {"query": NaN}}', "JSON"),
        ('{"priority": "urgent"}', "priority"),
        ('{"every": 0.1}', "every"),
        ('{"every": 10, "cron": "0 9 * * *"}', "one of them"),
        ('{"cron": "0 9 * *"}', "cron"),
        ('{"zone": "UTC"}', "zone"),
        ('{"not_before": "2026-12-01T09:00"}', "no time zone"),
        ('{"not_before": "tomorrow"}', "not_before"),
        ('{"attempts": 0.5}', "attempts"),
        ('{"attempts": 0}', "attempts"),
        ('{"key": 7}', "key"),
        ('{"key": "a\\u0000"}', "key"),
        (
            '{"task": "visit", "arguments": {"urls": ["https://a.example", "https://b.example"]}}',
            "a.example, b.example",
        ),
        ('{"task": "visit"}', "no address"),
        ('{"task": "visit", "arguments": {"urls": ["https://[1"]}}', ""),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, said: str) -> None:
    """The field is named too; nothing is added, not even the correct lines."""
    message = wrong(f'{{"key": "right"}}\n{line}')
    assert message.startswith("x, line 2: ") and said in message


def test_many_mistakes_are_one_short_message() -> None:
    """The message has the first ten mistakes."""
    assert wrong("{}\n" + "{\n" * 50).count("\n") == 9


def test_a_table_with_another_number_of_cells_is_told() -> None:
    """A row that has lost a comma does not become another job."""
    assert "line 3: has a different number of cells" in wrong("query,key\na,b\nc\n")


@pytest.mark.parametrize(("text", "value"), [("a=1", "1"), ("a=", ""), ("a=b=c", "b=c"), ("a:=[1]", [1])])
def test_an_argument_is_text_or_json(text: str, value: object) -> None:
    """`=` makes it text, `:=` JSON."""
    assert entering.argument(text) == ("a", value)


@pytest.mark.parametrize("text", ["a", "=1", "a b=1", "a:=x", "--a=1"])
def test_what_is_no_argument_is_said(text: str) -> None:
    """As words of the command line may be."""
    with pytest.raises(ValueError, match=r"not an argument|not JSON"):
        entering.argument(text)


def test_a_job_for_each_exit() -> None:
    """Any, the same as the first, one, or a list: then each has a key of its own; a country is written in capitals."""
    found = read('{"exits": "any"}\n{"exits": "same"}\n{"exits": ["kr"]}')
    where = [(job.exit, job.same_exit, job.key) for job in found]
    assert where == [("", False, None), ("", True, None), ("KR", False, None)]
    table = 'key,exits,query\na,"kr, 203.0.113.11",x\nb,,y\n'
    assert [(job.key, job.exit) for job in read(table)] == [
        ("a@KR", "KR"),
        ("a@203.0.113.11", "203.0.113.11"),
        ("b", ""),
    ]
    for text in ('"kr,any"', '["kr", "KR"]', "[]", "7", '["kr", 7]', '",kr"', '"a\\u0000"'):
        assert "exit" in wrong(f'{{"exits": {text}}}'), text
