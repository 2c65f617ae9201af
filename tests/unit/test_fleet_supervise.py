"""supervisord itself, started, watched and ended; its programs are small stand-ins from a folder of their own."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet import status, supervise
from fleet.backends import KERNEL
from fleet.errors import ExitCode, FleetError, TryLater, Unavailable
from fleet.isolation import UID, Isolation
from fleet.model import Paths
from fleet.operate import configuration, lifecycle, reload, render, verbs
from fleet.operate.run import _end
from fleet.programs import Installation
from fleet.supervise import ProgramState, Supervisor, wait_until
from tests.room import full_disk

CHECKOUT = Path(__file__).resolve().parents[2]
FLEET = '[workers]\ncount = 2\nstop_wait_seconds = 3\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]\n'


SLOW_TO_END = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), os._exit(0)))
print("I run", flush=True)
while True:
    signal.pause()
"""


class Plain(Installation):
    """An installation whose programs need neither accounts nor capabilities."""

    __slots__ = ()

    def netctl(self, *arguments: str, walls: Isolation = UID) -> list[str]:
        return self.module("netctl", *arguments)


@pytest.fixture
def installation(tmp_path: Path, root: None) -> Iterator[Installation]:
    """A release whose launch.py does what the file `behaviour` beside it says, rendered and ready to start.

    What starts again whom supervisord has given up (tests/contract/test_rearm.py) does nothing here.
    """
    release = tmp_path / "release"
    release.mkdir()
    shutil.copy(CHECKOUT / "supervisord.conf.j2", release)
    (release / "launch.py").write_text(
        "import runpy, signal, sys\n"
        "if sys.argv[1] == 'supervisor.supervisord':\n"
        f"    sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "    runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
        "    sys.exit()\n"
        "if 'fleet.operate.rearm' in sys.argv: signal.pause()\n"
        "exec(open(__file__.replace('launch.py', 'behaviour')).read())\n"
    )
    (release / "behaviour").write_text("import signal; print('I run', flush=True); signal.pause()\n")
    made = Plain(paths=Paths(root=tmp_path), release=release)
    made.paths.run.mkdir(parents=True)
    made.paths.logs.mkdir(parents=True)
    made.paths.given_up.parent.mkdir(parents=True)
    write_config(made)
    yield made
    # A program that is stopped between supervisord's fork and its exec misses the signal and is killed later.
    Supervisor(made).shut_down(60)
    # What a killed supervisord leaves is ended by a fleet's sweep, which goes by UIDs; these have none of their own.
    for process in psutil.process_iter(["cmdline"]):
        if str(release / "launch.py") in (process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                process.kill()


def write_config(installation: Installation, count: int = 2) -> None:
    """supervisord.conf for COUNT workers of INSTALLATION."""
    fleet = configuration.with_workers(configuration.parse(FLEET, "test"), count, "test")
    text = render.supervisord_conf(fleet, installation, KERNEL)
    installation.paths.supervisor_config.write_text(text)


def running(supervisor: Supervisor) -> bool:
    return all(item.state == "RUNNING" for item in supervisor.states())


def test_everything_starts_and_ends(installation: Installation) -> None:
    """After start all programs come up; after shut_down neither supervisord nor a program is there."""
    supervisor = Supervisor(installation)
    child = supervisor.start(end_with_us=True)
    wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
    states = supervisor.states()
    assert [item.name for item in states] == ["netctl", "rearm", "worker:w1101", "worker:w1102"]
    assert supervisor.shut_down(20)
    assert child.wait(5) == 0
    assert not any(psutil.pid_exists(item.pid) for item in states)
    assert supervisor.pid() is None


@pytest.mark.parametrize("log_bytes", [0, 20 << 20], ids=["begun", "to be rotated"])
def test_a_full_disk_of_logs_ends_nothing(installation: Installation, log_bytes: int) -> None:
    """Supervisord and its programs run on; what they print is dropped in silence, and with room it is logged again."""
    prints = "import time\nwhile True: print('I run', flush=True); time.sleep(.1)\n"
    (installation.release / "behaviour").write_text(prints)
    supervisor, complaints = Supervisor(installation), installation.paths.run / "supervisord-start.log"

    def seen() -> tuple[set[int], int]:
        return {item.pid for item in supervisor.states()}, complaints.stat().st_size

    def logged() -> bool:
        return any(b"I run" in path.read_bytes()[-100:] for path in installation.paths.logs.glob("w1101.log*"))

    with full_disk(installation.paths.logs) as filler:
        for name in ("netctl", "w1101", "w1102"):
            installation.paths.log(name).touch()
            os.truncate(installation.paths.log(name), log_bytes)
        child = supervisor.start(end_with_us=True)
        wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
        before = seen()
        wait_until(lambda: min(item.up_seconds for item in supervisor.states()) > 2, 10, lambda: str(seen()))
        assert seen() == before and child.poll() is None and not logged()
        filler.unlink()
        wait_until(logged, 10, lambda: "nothing is logged")
        assert supervisor.shut_down(20)


def test_what_it_keeps_lasts_as_long_as_it(installation: Installation) -> None:
    """A descriptor given to supervisord stays open until it ends, also over a reload; none of its programs has it."""
    reading, writing = os.pipe()
    try:
        supervisor = Supervisor(installation)
        child = supervisor.start(end_with_us=True, keeps=(writing, writing))
        os.close(writing)
        wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
        before = {item.pid for item in supervisor.states()}
        child.send_signal(signal.SIGHUP)
        wait_until(lambda: others_run(supervisor, before), 30, lambda: "it does not start its programs again")
        pipe = os.fstat(reading)
        holders = {one.pid for one in psutil.process_iter() if (pipe.st_dev, pipe.st_ino) in open_in(one)}
        assert holders == {os.getpid(), child.pid}
        child.kill()
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)


def test_programs_join_and_leave_a_group_that_runs(installation: Installation) -> None:
    """The group's other processes stay the same, and all end together; no removed program stays alive."""
    supervisor = Supervisor(installation)
    child = supervisor.start(end_with_us=True)
    wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
    before = {item.name: item.pid for item in supervisor.states()}
    write_config(installation, 40)
    supervisor.update("worker")
    wait_until(lambda: running(supervisor), 60, lambda: str(supervisor.states()))
    after = {item.name: item.pid for item in supervisor.states()}
    assert len(after) == len(before) + 38 and before.items() <= after.items()
    assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE)[0] >= 1024 + 8 * 44
    write_config(installation, 1)
    with pytest.raises(FleetError, match="STILL_RUNNING: worker"):
        supervisor.update("worker")
    write_config(installation, 39)
    supervisor.stop_program("worker:w1140", 10)
    supervisor.update("worker")
    assert {item.name for item in supervisor.states()} == after.keys() - {"worker:w1140"}
    with pytest.raises(FleetError, match="BAD_NAME: wg"):
        supervisor.update("wg")
    assert supervisor.shut_down(60)


def others_run(supervisor: Supervisor, before: set[int]) -> bool:
    """Whether all programs run, and none of them is a process of BEFORE."""
    try:
        return running(supervisor) and not before & {item.pid for item in supervisor.states()}
    except FleetError:
        return False  # it starts again


def open_in(process: psutil.Process) -> set[tuple[int, int]]:
    """What PROCESS has open: devices and inodes."""
    found = set()
    with contextlib.suppress(OSError):
        for one in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add((one.stat().st_dev, one.stat().st_ino))
    return found


def test_socket_is_for_root_alone(installation: Installation) -> None:
    """A user that can open supervisord's socket can do everything as root, so only root can."""
    Supervisor(installation).start(end_with_us=True)
    found = installation.paths.supervisor_socket.stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o700, os.geteuid())


def test_not_running_is_unavailable(installation: Installation) -> None:
    """Without a supervisord the states are unavailable, its pid is None, and ending it is no error."""
    supervisor = Supervisor(installation)
    assert supervisor.pid() is None
    assert not supervisor.shut_down(1)
    with pytest.raises(Unavailable):
        supervisor.states()


def test_killed_supervisord_leaves_nothing_in_the_way(installation: Installation) -> None:
    """After SIGKILL its socket and pid file are left-overs, and the next start simply works."""
    first = Supervisor(installation).start(end_with_us=True)
    first.send_signal(signal.SIGKILL)
    first.wait(5)
    assert installation.paths.supervisor_socket.exists()
    second = Supervisor(installation)
    child = second.start(end_with_us=True)
    assert second.pid() == child.pid


def test_a_frozen_supervisord_is_not_taken_for_none(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen supervisord would start everything again when it continues, so it is not reported as ended.

    `fleet run` still writes its report, with the reason in it.
    """
    monkeypatch.setattr(supervise, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(supervise, "_LAST_SECONDS", 0.2)
    supervisor = Supervisor(installation)
    child = supervisor.start(end_with_us=True)
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(TryLater, match=str(child.pid)):
        supervisor.shut_down(5)
    assert f"kill -9 {child.pid}" in str(_end(configuration.parse(FLEET, "test"), installation))
    child.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    wait_until(lambda: supervisor.pid() == child.pid, 10, lambda: "it does not go on")
    assert supervisor.shut_down(20) and not supervisor.shut_down(5)


def test_two_ends_at_once_end_once(installation: Installation) -> None:
    """While supervisord ends its programs it answers nothing; a second caller that ends it waits for the same end."""
    (installation.release / "behaviour").write_text(SLOW_TO_END)
    supervisor = Supervisor(installation)
    child = supervisor.start(end_with_us=True)
    wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
    child.send_signal(signal.SIGTERM)
    wait_until(lambda: _refuses(supervisor), 10, lambda: "it answers still")
    assert supervisor.pid() == child.pid
    assert supervisor.shut_down(60)
    assert supervisor.pid() is None


def _refuses(supervisor: Supervisor) -> bool:
    with contextlib.suppress(Unavailable, FleetError):
        supervisor.states()
        return False
    return True


def test_who_never_joined_is_not_started_again(installation: Installation) -> None:
    """A reload that was killed between the settings and supervisord leaves a worker that is in the settings alone."""
    supervisor = Supervisor(installation)
    supervisor.start(end_with_us=True)
    wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
    fleet = configuration.with_workers(configuration.parse(FLEET, "test"), 3, "test")
    turns = reload._Turns(fleet, installation)
    turns.start_again(fleet.members)
    assert turns._ending.keys() == {"w1101", "w1102"}


class Late(Supervisor):
    """Its supervisord ends between the first request and the next ones."""

    child: subprocess.Popen[bytes]
    gone: bool
    """Also its process."""

    def pid(self) -> int | None:
        self.child.kill()
        if self.gone:
            self.child.wait(5)
        return self.child.pid


@pytest.mark.parametrize("gone", [False, True])
def test_an_end_that_comes_first_is_an_end(installation: Installation, gone: bool) -> None:
    """Ending a supervisord that ends by itself at the same moment is no error."""
    late = Late(installation)
    late.child, late.gone = Supervisor(installation).start(end_with_us=True), gone
    assert late.shut_down(5)


def test_an_end_that_takes_long_is_told_as_such(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too short for the end is told which process to kill; meanwhile `fleet status` answers, and `fleet up`
    says that it ends and not that it is up.
    """
    (installation.release / "behaviour").write_text(SLOW_TO_END)
    supervisor = Supervisor(installation)
    child = supervisor.start(end_with_us=True)
    wait_until(lambda: running(supervisor), 10, lambda: str(supervisor.states()))
    seen = status.take((), installation)
    assert seen.supervisor_pid == child.pid and seen.programs
    with pytest.raises(FleetError, match=rf"supervisord \({child.pid}\) did not end within 0.3 s") as caught:
        supervisor.shut_down(0.3)
    assert f"kill -9 {child.pid}" in caught.value.hint
    seen = status.take((), installation)
    assert seen.supervisor_pid == child.pid and not seen.programs
    monkeypatch.setenv("FLEET_ROOT", str(installation.paths.root))
    installation.paths.config.parent.mkdir(parents=True)
    installation.paths.config.write_text(FLEET)
    with pytest.raises(Unavailable, match="ends its programs"):
        verbs.up(argparse.Namespace(foreground=False))
    assert supervisor.shut_down(60)


def test_second_supervisord_is_refused(installation: Installation) -> None:
    """While one runs, no second one is started beside it."""
    Supervisor(installation).start(end_with_us=True)
    with pytest.raises(TryLater, match="already running"):
        lifecycle.refuse_if_running(installation)
    with pytest.raises(FleetError, match="ended at once"):
        Supervisor(installation).start(end_with_us=True)


def test_unusable_config_is_one_clear_error(installation: Installation) -> None:
    """A supervisord that cannot start says why in the error."""
    installation.paths.supervisor_config.write_text("[supervisord]\nminfds=many\n")
    with pytest.raises(FleetError, match="base 10"):
        Supervisor(installation).start(end_with_us=True)


def test_program_with_a_final_error_is_trouble(installation: Installation) -> None:
    """A worker that ends with code 78 after a while is reported at once, with the last lines of its log."""
    (installation.release / "behaviour").write_text(
        "import select, sys; print('the file is wrong', flush=True); select.select([], [], [], 1.5); sys.exit(78)\n"
    )
    with pytest.raises(FleetError, match=r"ended with code 78.*\n.*the file is wrong"):
        watch_for_trouble(installation, 10)


def test_program_that_never_stays_up_is_trouble(installation: Installation) -> None:
    """A program that ends before startsecs again and again is reported long before supervisor gives up.

    It is started again after 1, 2, 3 s and so on: a crash at the start takes no processor time.
    """
    (installation.release / "behaviour").write_text("raise SystemExit('no browser')\n")
    with pytest.raises(FleetError, match=r"does not stay up.*\n.*no browser"):
        watch_for_trouble(installation, 20)  # which takes 6 s
    assert all(2 <= count <= 5 for count in spawned(installation).values()), spawned(installation)


def test_final_code_at_once_is_final(installation: Installation) -> None:
    """The real launcher and the real netctl, whose settings are not there: each ends once, with the code it gave."""
    real = Plain(paths=installation.paths, release=CHECKOUT)
    write_config(real)
    supervisor = Supervisor(real)
    supervisor.start(end_with_us=True)

    def programs() -> list[ProgramState]:
        return [item for item in supervisor.states() if item.name != "rearm"]

    wait_until(lambda: all(item.ended for item in programs()), 20, lambda: str(programs()))
    codes = {item.name: item.exit_code for item in programs()}
    launcher = ExitCode.CONFIGURATION if os.geteuid() == 0 else ExitCode.NOT_ALLOWED
    assert codes == {"netctl": ExitCode.CONFIGURATION, "worker:w1101": launcher, "worker:w1102": launcher}
    assert spawned(real) == {"netctl": 1, "w1101": 1, "w1102": 1}


def test_a_crash_later_on_is_no_end(installation: Installation) -> None:
    """After a later exit with a code that is not final, supervisord restarts the program; no trouble is reported."""
    (installation.release / "behaviour").write_text(
        "import select, sys; select.select([], [], [], 2.1); sys.exit(70)\n"
    )
    watch_for_trouble(installation, 20, lambda: all(count >= 2 for count in spawned(installation).values()))


def spawned(installation: Installation) -> Counter[str]:
    """How often supervisord has started each program."""
    found = Counter(re.findall(r"spawned: '(\w+)'", installation.paths.log("supervisord").read_text()))
    del found["rearm"]
    return found


def watch_for_trouble(installation: Installation, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
    """Start the programs, and look for SECONDS at what becomes of them, as `fleet up` does, until there is ENOUGH."""
    supervisor, trouble = Supervisor(installation), lifecycle.Trouble(installation)
    supervisor.start(end_with_us=True)

    def noticed() -> bool:
        trouble.check(supervisor.states())
        return enough()

    wait_until(noticed, seconds, lambda: "no trouble")


def test_only_one_operator(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `up` or `run` is told which process is at work; the lock ends with its holder.

    Nor does anybody remove the accounts that it has just looked at.
    """
    monkeypatch.setenv("FLEET_ROOT", str(installation.paths.root))
    with lifecycle.operator(installation.paths):
        with pytest.raises(TryLater, match=str(os.getpid())), lifecycle.operator(installation.paths):
            pass
        with pytest.raises(TryLater, match=str(os.getpid())):
            verbs.remove_accounts(argparse.Namespace())
    with lifecycle.operator(installation.paths):
        pass
