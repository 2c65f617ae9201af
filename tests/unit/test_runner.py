"""bin/test: shares, jobs, and what is said of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runner import again, jobs, plan, shares
from tests.runner.jobs import Job, Running
from tests.runner.progress import broken
from tests.runner.summary import Summary

ALONE = Path(__file__).resolve().parents[1] / "runner/alone.sh"
TESTS = """
import pytest

def test_good():
    print("quiet")

def test_bad():
    print("what it said")
    assert 1 == 2

def test_not_here():
    pytest.skip("no reason")

@pytest.fixture
def leaves():
    yield
    raise OSError("left something")

def test_untidy(leaves):
    pass
"""


def run(planned: Sequence[Job], folder: Path) -> list[Running]:
    """Run jobs to their end, two at once."""

    def look(running: Sequence[Running]) -> None:
        for one in running:
            list(one.news())

    return list(jobs.run(planned, 2, folder, False, look))


def pytest_job(folder: Path, *options: str, text: str = TESTS) -> Running:
    """The end of a job that runs TEXT as a file of tests."""
    (folder / "test_it.py").write_text(text)
    argv = (sys.executable, "-m", "pytest", "-p", "tests.conftest", f"--rootdir={folder}", *options, str(folder))
    (ended,) = run([Job("part 1", argv, 1, tells=True)], folder)
    return ended


@given(st.dictionaries(st.integers(0, 99).map(lambda n: f"tests/{n}.py"), st.floats(0, 300)), st.integers(1, 4))
def test_shares_are_about_as_long(known: dict[str, float], number: int) -> None:
    """Every file is in one share, in its old order; no share is longer than the shortest by more than one file."""
    names = list(known)
    dealt = shares.shared(names, number, known)
    assert sorted(name for share in dealt for name in share) == sorted(names)
    assert all(share == sorted(share, key=names.index) for share in dealt)
    seconds = [shares.expected_seconds(share, known) for share in dealt]
    assert not dealt or max(seconds) - min(seconds) <= max(known.values()) + 0.001
    assert len(dealt) == min(number, len(names))


def test_what_was_measured_is_kept_where_it_tips_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of what was known; not what has become short, and no file that is gone."""
    slow, quick, gone = "tests/test_repo.py", "tests/test_layers.py", "tests/unit/test_gone.py"
    monkeypatch.setattr(shares, "DURATIONS", tmp_path / "durations.json")
    shares.DURATIONS.write_text(json.dumps({slow: 11, quick: 50, gone: 60, "mypy": 20}))
    shares.record({slow: 30.04, quick: 9.9, "ruff": 1.0})
    assert shares.durations() == {slow: 30.0, "mypy": 20}


def test_the_summary_counts_every_test_once(tmp_path: Path) -> None:
    """Also one that fails when it has passed; what a failed one said stands there in full."""
    summary = Summary(notes=["a note"], rounds=1, ended=[pytest_job(tmp_path)])
    lines = list(summary.lines())
    assert lines[-2:] == ["a note", "1 passed, 2 failed, 1 skipped"]
    said = "\n".join(lines)
    assert all(text in said for text in ("assert 1 == 2", "what it said", "left something"))
    assert "quiet" not in said


def test_what_failed_beside_others_may_try_again(tmp_path: Path) -> None:
    """By itself: what passes then is told and no failure; what fails twice, or leaks, or is one of many, has failed."""
    text = "import pathlib\n\ndef test_first():\n    assert pathlib.Path(__file__).with_name('second').exists()\n"
    ended = pytest_job(tmp_path, text=text)
    (job,) = again.jobs_of([ended])
    assert job.argv[-1] == ended.tests[0].name
    for number, verdict in ((0, (0, 1)), (1, (1, 0))):
        (tmp_path / str(number)).mkdir()
        if number:
            (tmp_path / "second").touch()
        summary = Summary(notes=[], rounds=1, ended=[ended], again=run([replace(job, argv=ended.job.argv)], tmp_path))
        assert (summary.counts()["passed"], summary.counts()["failed"]) == verdict
        assert ("FAILED BESIDE OTHERS" in "\n".join(summary.lines())) is bool(number)
    for name, number in (("tests/leak/test_it.py::test_one", 1), ("tests/system/test_it.py::test_one", 6)):
        ended.tests[:] = [replace(ended.tests[0], name=name)] * number
        assert again.jobs_of([ended]) == []


def test_a_skip_is_a_failure_where_that_is_asked_for(tmp_path: Path) -> None:
    """--no-skips: the test counts as failed, with the reason of the skip."""
    ended = pytest_job(tmp_path, "--no-skips", "-k", "not_here")
    assert [(test.outcome, "no reason" in test.text) for test in ended.tests] == [("failed", True)]
    assert ended.code == 1


def test_a_file_that_cannot_be_read_has_failed(tmp_path: Path) -> None:
    """No test of it runs; the job has broken, and the file's error is shown."""
    ended = pytest_job(tmp_path, text="import nothing_of_that_name")
    assert [(test.outcome, "nothing_of_that_name" in test.text) for test in ended.tests] == [("failed", True)]
    assert "ended with 2" in broken(ended)


@pytest.mark.parametrize(("code", "verdict"), [(0, ""), (1, "ended with 1"), (-9, "ended with -9")])
def test_a_step_is_judged_by_its_exit_code(tmp_path: Path, code: int, verdict: str) -> None:
    """0 is good; of any other the output is shown."""
    end = "kill -9 $$" if code < 0 else f"exit {code}"
    (ended,) = run([Job("step", ("sh", "-c", f"echo some words; {end}"), 1)], tmp_path)
    summary = Summary(notes=[], rounds=1, ended=[ended])
    assert broken(ended) == verdict
    assert ("some words" in "\n".join(summary.lines())) is bool(verdict)
    assert summary.counts() == ({"failed": 1} if verdict else {"passed": 1})


def test_a_tier_before_a_release_has_its_time() -> None:
    """What runs before a release alone is known to take long: as a file never measured it would be stopped half way."""
    slow = [name for tier in plan.RELEASE for name in plan.files(tier)]
    assert slow and min(shares.durations().get(name, 0) for name in slow) > plan.LEAST_DEADLINE_SECONDS


def test_what_hangs_is_stopped_at_its_deadline(tmp_path: Path) -> None:
    """It is told where it stood."""
    hanging = Job("part 1", ("sh", "-c", """echo '{"begun": "test_slow"}' >"$2"; sleep 600""", "sh"), 1, tells=True)
    (ended,) = run([replace(hanging, deadline_seconds=0.5)], tmp_path)
    assert "it was at test_slow" in broken(ended)


def test_jobs_start_when_what_they_need_is_there(tmp_path: Path) -> None:
    """The early ones first, the longest before the others; meanwhile a free place goes to whoever needs nothing."""
    made, other = tmp_path / "made", tmp_path / "other"
    makes = Job("makes", ("sh", "-c", f"until [ -e {other} ]; do sleep 0.05; done; touch {made}"), 1, early=True)
    needs = Job("needs", ("test", "-e", str(made)), 9, after=frozenset({"makes"}))
    others = [Job("short", ("touch", str(other)), 2), Job("early", ("true",), 5, early=True), Job("long", ("true",), 8)]
    ended = run([needs, makes, *others], tmp_path)
    assert [one.code for one in ended] == [0] * 5
    assert [one.job.name for one in sorted(ended, key=lambda one: one.begun)][:2] == ["early", "makes"]
    assert [one.job.name for one in ended][-2:] == ["makes", "needs"]


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Everything that runs is stopped before the runner ends."""
    seen: list[int] = []

    def look(running: Sequence[Running]) -> None:
        seen.extend(one.process.pid for one in running)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(jobs.run([Job("step", ("sleep", "600"), 1), Job("other", ("sleep", "600"), 1)], 2, tmp_path, False, look))
    assert len(seen) == 2 and not [pid for pid in seen if Path(f"/proc/{pid}").exists()]


def test_a_job_has_a_machine_of_its_own(root: None) -> None:
    """alone.sh: own processes, network, /run and lab folder; a program that the job leaves ends with it."""
    sleep = ["sleep", f"6{os.getpid()}"]
    look = "ls /sys/class/net; ls -A /var/lib/fleet-lab /dev/shm; ls /proc >/run/seen; grep -cx '[0-9]*' /run/seen"
    leave = f"touch /run/mine; setsid {' '.join(sleep)} & exit 7"
    done = subprocess.run(
        [ALONE, "sh", "-c", f"{look}; {leave}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split() == ["lo", "/dev/shm:", "/var/lib/fleet-lab:", "3"], "two shells and ls"
    assert not Path("/run/mine").exists()
    assert sleep not in [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
